"""What a codec is, its bytes and its files: the contract every other room speaks of."""

from lic_train.codec.contract import Codec, Reconstruction

__all__ = ["Codec", "Reconstruction"]
