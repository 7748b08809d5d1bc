"""lic_train: train learned image codecs, and judge them by the files they write."""

__version__ = "0.2.0"
