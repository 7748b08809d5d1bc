"""Transform coding: an analysis transform, coded latents, a synthesis transform."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lic_train.codec import Codec, Reconstruction
from lic_train.codec.contract import Shape, bits
from lic_train.errors import BitstreamError, ModelError
from lic_train.modules.codecs.base.quantise import checked_quantiser
from lic_train.modules.entropy.exact import exactly
from lic_train.modules.layers.gains import (
    RateGains,
    ladder,
    rate_as_coded,
    rate_head,
    split_rate,
)
from lic_train.modules.layers.padding import ceil_div, crop_to, pad_to_multiple
from lic_train.modules.layers.wavelet import STARTS, wavelet_start

LATENT_STRIDE = 16
"""Pixels a side that one position of y stands for."""
LMBDAS = (0.0018, 0.0932)
"""First and last of a ladder where none is given."""


class TransformCodec(Codec):
    """``x -> g_a -> y -> (coded) -> y_hat -> g_s -> x_hat``; subclasses say how y is coded.

    With several rates, y is multiplied by the gain of its rate before it is coded, and y_hat by
    another one after, see :class:`.layers.gains.RateGains`: everything that is coded sees latents
    in steps of the quantiser. Each image of a training batch has a rate of its own.
    """

    stride: int = 64
    """Sides are padded to multiples of this: 16 for y, times 4 where there is a z."""
    num_chunks: int = 2
    """Chunks per image, e.g. those of y and z."""
    channels: int = 3
    """Of the signal."""
    start: str = "random"
    quantise: str = "noise"
    """What stands for rounding in training, see :mod:`.base.quantise`."""
    exact: bool = False
    """Out of training, synthesise in float64: for a codec that codes further signals from what
    this one decodes, and must have it alike to the last bit in every process."""

    g_a: nn.Module
    g_s: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.gains: RateGains | None = None
        """There where the codec has several rates."""

    def begin(
        self,
        start: str,
        start_lmbda: float,
        quantise: str,
        rates: int = 1,
        lmbdas: Sequence[float] = LMBDAS,
    ) -> Tensor | None:
        """Keep how training begins and goes; a wavelet start sets the transforms.

        Args:
            start, quantise: by name.
            start_lmbda: the trade-off that a wavelet start is made for; with several rates it is
                that in the middle of their ladder.
            rates: operating points; 1 has no gains.
            lmbdas: the trade-off of each, see :func:`.layers.gains.ladder`.

        Returns:
            ``(M,)``: standard deviations of y that the entropy model should begin with, in steps of
            the quantiser; None for a random start.

        Raises:
            ValueError: a name that is none.
            ModelError: the transforms cannot hold a wavelet, or lambdas are no ladder.
        """
        if start not in STARTS:
            raise ValueError(f"start is {start!r}, not one of {', '.join(STARTS)}")
        self.start, self.quantise = start, checked_quantiser(quantise)
        if rates != 1:
            first: Any = self.g_s[0]  # type: ignore[index]
            self.gains = RateGains(first.in_channels, ladder(rates, lmbdas))
            self.num_rates, self.real_rates, self.own_lmbda = rates, True, True
            start_lmbda = self.gains.middle
        if start == "random":
            return None
        return wavelet_start(self.g_a, self.g_s, start_lmbda, mean=0.5 if self.channels == 3 else 0)

    @torch.no_grad()
    def begin_signed(self, strength: float = 1.0) -> None:
        """Begin as a codec of signals around zero, such as residuals: from nothing, not from grey.

        Args:
            strength: what the last weights of a random synthesis are multiplied with, since what it
                adds is an error until it has learnt.
        """
        last: Any = self.g_s[-1]  # type: ignore[index]
        last.bias.zero_()
        if self.start == "random":
            last.weight *= strength
        else:
            first: Any = self.g_a[0]  # type: ignore[index]
            first.bias.zero_()

    @abstractmethod
    def latents(self, y: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """y ``(N, M, h, w)`` to y_hat and the likelihoods of all that is coded for it."""

    @abstractmethod
    def encode_latents(self, y: Tensor) -> list[bytes]:
        """Code y ``(1, M, h, w)``."""

    @abstractmethod
    def decode_latents(self, chunks: list[bytes], size: tuple[int, int]) -> Tensor:
        """y_hat ``(1, M, *size)``, equal to what eval-mode :meth:`latents` gives."""

    def analyse(self, x: Tensor) -> Tensor:
        """Image ``(N, channels, H, W)`` of any size to y."""
        return self.g_a(pad_to_multiple(x, self.stride))

    def synthesise(self, y_hat: Tensor, height: int, width: int) -> Tensor:
        """y_hat to the image ``(N, channels, height, width)``, unclamped."""
        return crop_to(self.g_s(y_hat), height, width)

    def _image(self, y_hat: Tensor, height: int, width: int) -> Tensor:
        """As :meth:`synthesise`; float64 where the codec is ``exact``."""
        if self.exact and not self.training:
            image: Tensor = exactly(_Synthesis(self), y_hat, height=height, width=width)
            return image
        return self.synthesise(y_hat, height, width)

    def forward(self, x: Tensor) -> list[Reconstruction]:
        if self.gains is None:
            return [self._at(x)]
        if self.training:
            rates = self.gains.drawn(len(x))
            part = self._at(x, rates.to(x.device))
            return [part._replace(lmbda=self.gains.lmbdas_of(rates).to(x.device))]
        share = 1 / self.num_rates
        return [
            self._of_file(x, rate)._replace(name=f"rate{rate}", weight=share, lmbda=lmbda)
            for rate, lmbda in enumerate(self.gains.lmbdas)
        ]

    def _at(self, x: Tensor, rates: Tensor | None = None) -> Reconstruction:
        """A batch at one rate for each image ``(N,)``; None: the only one."""
        y = self.analyse(x)
        if self.gains is None or rates is None:
            y_hat, likelihoods = self.latents(y)
        else:
            y_hat, likelihoods = self.latents(y * self.gains.analysis(rates))
            y_hat = y_hat * self.gains.synthesis(rates)
        x_hat = self._image(y_hat, x.shape[-2], x.shape[-1])
        return Reconstruction(x_hat, x, likelihoods)

    def _of_file(self, x: Tensor, rate: float) -> Reconstruction:
        """What files of one rate, whole or not, decode to: one by one, as they are coded."""
        if self.gains is None:
            return self._at(x)
        at = x.new_tensor([rate_as_coded(rate)])
        return joined([self._at(image, at) for image in x.split(1)])

    @torch.no_grad()
    def reconstruct(self, x: Tensor, rate: float = -1) -> Tensor:
        return self._of_file(x, rate % self.num_rates if rate < 0 else rate).x_hat

    @torch.no_grad()
    def estimate(self, x: Tensor, rate: float = -1) -> float:
        """Estimated bits of the batch at this rate alone: rates do not build on each other."""
        part = self._of_file(x, rate % self.num_rates if rate < 0 else rate)
        return sum(bits(p).item() for p in part.likelihoods.values())

    def encode(self, x: Tensor, rate: float) -> list[bytes]:
        y = self.analyse(x)
        if self.gains is None:
            return self.encode_latents(y)
        at = x.new_tensor([rate_as_coded(rate)])
        first, *others = self.encode_latents(y * self.gains.analysis(at))
        return [rate_head(rate) + first, *others]

    def decode(self, chunks: list[bytes], shape: Shape, rate: int) -> Tensor:
        if len(chunks) != self.num_chunks or len(shape) != 4 or shape[1] != self.channels:
            raise BitstreamError("the stream does not hold what this codec writes")
        height, width = shape[-2:]
        steps = self.stride // LATENT_STRIDE
        size = (ceil_div(height, self.stride) * steps, ceil_div(width, self.stride) * steps)
        if self.gains is None:
            return self._image(self.decode_latents(chunks, size), height, width)
        own, first = split_rate(chunks[0], rate)
        y_hat = self.decode_latents([first, *chunks[1:]], size)
        y_hat = y_hat * self.gains.synthesis(y_hat.new_tensor([own]))
        return self._image(y_hat, height, width)


class _Synthesis(nn.Module):
    """A codec whose forward is its synthesis."""

    def __init__(self, codec: TransformCodec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, y_hat: Tensor, height: int, width: int) -> Tensor:
        return self.codec.synthesise(y_hat, height, width)


def refuse_rates(*parts: TransformCodec | None) -> None:
    """Refuse codecs of several rates where they would be parts of another codec.

    Raises:
        ModelError: one has.
    """
    if any(part is not None and part.num_rates > 1 for part in parts):
        raise ModelError("a codec that is a part of another has one rate: set its rates=1")


def joined(parts: list[Reconstruction]) -> Reconstruction:
    """Reconstructions of single signals as that of their batch."""
    likelihoods = {n: torch.cat([p.likelihoods[n] for p in parts]) for n in parts[0].likelihoods}
    x_hat, target = (torch.cat([p[i] for p in parts]) for i in (0, 1))  # type: ignore[misc]
    return parts[0]._replace(x_hat=x_hat, target=target, likelihoods=likelihoods)


def float32(x: Tensor) -> torch.autocast:
    """Context in which autocast is off: likelihoods are float32 whatever the bodies run in."""
    return torch.autocast(x.device.type, enabled=False)
