"""What the fully connected codecs of 8x8 patches have in common: all but their networks."""

from __future__ import annotations

from abc import abstractmethod

from torch import nn

from lic_train.modules.codecs.base.progressive import ProgressiveCodec
from lic_train.modules.layers.patches import PATCH


class PatchCodec(ProgressiveCodec):
    """Each 8x8 patch is coded on its own; a 32x32 thumbnail costs 64 bits, 8 bytes, an iteration.

    Args:
        width: of the hidden layers.
        bits: per patch and iteration.
        iterations: that are trained and can be sent.
        additive: whether reconstructions add up; else every iteration gives the whole patch. None
            is the paper's choice, :attr:`paper_adds`.
        target_psnr: dB at which a patch gets no further iterations; None sends all.
        context: channels of the net that predicts bits from bits; 0: bits are sent as they are.
        code_bits: False does not use it, to see what it saves.
    """

    paper_adds: bool

    def __init__(
        self,
        width: int = 512,
        bits: int = 4,
        iterations: int = 16,
        additive: bool | None = None,
        target_psnr: float | None = None,
        context: int = 0,
        code_bits: bool = True,
    ) -> None:
        encoder, decoder = self.networks(width, bits, iterations)
        super().__init__(
            encoder,
            decoder,
            bits=bits,
            stride=PATCH,
            iterations=iterations,
            additive=self.paper_adds if additive is None else additive,
            tile=PATCH,
            target_psnr=target_psnr,
            context=context,
            code_bits=code_bits,
        )

    @abstractmethod
    def networks(self, width: int, bits: int, iterations: int) -> tuple[nn.Module, nn.Module]:
        """Encoder and decoder, as :class:`ProgressiveCodec` wants them."""
