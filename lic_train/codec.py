"""The contract: what every codec promises and all that the trainer, loss and evaluator know of it.

A codec turns a signal into reconstructions, each with the likelihoods of the latents it cost.
A codec compresses a signal at a rate index to bytes that describe themselves, and decompresses
those bytes with no other knowledge than its weights.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from compressai.entropy_models import EntropyBottleneck, EntropyModel
from compressai.models.base import get_scale_table
from torch import Tensor, nn

from lic_train.bitstream import FINGERPRINT_BYTES, Bitstream
from lic_train.errors import BitstreamError, ModelError

Shape = tuple[int, ...]
# Buffers of CompressAI's entropy models that `update` fills and that change size when it does.
TABLES = ("_quantized_cdf", "_offset", "_cdf_length", "scale_table")


class Reconstruction(NamedTuple):
    """One thing a codec reconstructs, and what it cost beyond the reconstructions before it.

    Attributes:
        x_hat: ``(N, C, H, W)``, unclamped.
        target: what ``x_hat`` should equal, same shape: own resolution, own frame.
        likelihoods: of the latents THIS reconstruction adds, any shapes, in (0, 1]; ``{}`` is free.
        name: log key, e.g. ``"iter03"``, ``"layer1"``, ``"frame02"``.
        weight: its share of the Lagrangian; 0 means logged only.
        lmbda: own trade-off; ``None`` means the run's.
    """

    x_hat: Tensor
    target: Tensor
    likelihoods: dict[str, Tensor]
    name: str = "image"
    weight: float = 1.0
    lmbda: float | None = None


class Codec(nn.Module, ABC):
    """Base class of every codec. A new codec writes ``forward``, ``encode`` and ``decode``.

    Signals are ``(N, C, H, W)`` or, for video, ``(N, T, C, H, W)``, in [0, 1].
    """

    num_rates: int = 1
    """Operating points of one set of weights, coarse 0 ... fine ``num_rates - 1``."""
    real_rates: bool = False
    """Whether ``encode`` also takes every real rate between two operating points."""

    _fingerprint: bytes | None = None

    # --- what a codec writes -----------------------------------------------------------------
    @abstractmethod
    def forward(self, x: Tensor) -> list[Reconstruction]:
        """Reconstruct ``x``: noisy latents in training, what the file decodes to in eval."""

    @abstractmethod
    def encode(self, x: Tensor, rate: float) -> list[bytes]:
        """Code ONE signal, ``x`` of shape ``(1, ...)``, to chunks.

        ``rate`` is whole unless the codec has ``real_rates``; whatever the decoder must know of a
        rate in between belongs into the chunks, the file's header holds the next whole one.
        """

    @abstractmethod
    def decode(self, chunks: list[bytes], shape: Shape, rate: int) -> Tensor:
        """Decode the chunks of ONE signal of true shape ``(1, ...)``. Never clamps.

        Raises:
            BitstreamError: the chunks are malformed or decode to other latents than were coded.
        """

    def chunks_at(self, rate: int) -> int | None:
        """How many chunks of a finer file make up the file of this rate; ``None``: its own ones.

        A progressive or layered codec overrides this; its streams can be cut, see :meth:`cut`.
        """
        return None

    # --- what it inherits --------------------------------------------------------------------
    @torch.no_grad()
    def compress(self, x: Tensor, rate: float = -1) -> Bitstream:
        """Compress a batch, one signal after the other, so that a batch costs and decodes as its
        members do.

        Args:
            x: ``(N, ...)`` in [0, 1].
            rate: index of the operating point; negative counts from the finest. Between two of
                them where the codec has ``real_rates``.

        Raises:
            ModelError: ``update`` was not called, or there is no such rate.
        """
        if self._fingerprint is None or self.training:
            raise ModelError("call codec.eval() and codec.update() before coding")
        last = self.num_rates - 1
        if not -self.num_rates <= rate <= last:  # nan is refused too
            raise ModelError(f"rate {rate:g} asked for, the codec has 0 ... {last}")
        if rate == int(rate):
            rate = int(rate) % self.num_rates
        elif rate < 0 or not self.real_rates:
            raise ModelError(f"rate {rate:g} asked for, this codec has whole rates only")
        chunks = [c for signal in x.split(1) for c in self.encode(signal, rate)]
        return Bitstream(tuple(chunks), tuple(x.shape), math.ceil(rate), self._fingerprint)

    def cut(self, stream: Bitstream, rate: int) -> Bitstream:
        """The stream of a lower rate, from the chunks of a finer one: nothing is coded again.

        Raises:
            ModelError: the rates of this codec do not build on each other, or it is no lower one.
        """
        signals, count = stream.shape[0], self.chunks_at(rate)
        if count is None:
            raise ModelError("the rates of this codec do not build on each other: compress anew")
        if not 0 <= rate <= stream.rate or stream.rate >= self.num_rates:
            raise ModelError(f"rate {rate} asked for, the stream holds 0 ... {stream.rate}")
        per_signal = len(stream.chunks) // signals
        kept = [stream.chunks[i * per_signal : i * per_signal + count] for i in range(signals)]
        return replace(stream, chunks=tuple(c for chunks in kept for c in chunks), rate=rate)

    @torch.no_grad()
    def decompress(self, stream: Bitstream) -> Tensor:
        """The signal a stream holds, shape ``stream.shape``, clamped to [0, 1].

        Raises:
            BitstreamError: the stream is of other weights, or malformed.
            ModelError: ``update`` was not called.
        """
        if self._fingerprint is None or self.training:
            raise ModelError("call codec.eval() and codec.update() before coding")
        if stream.fingerprint != self._fingerprint:
            raise BitstreamError(
                f"the stream was made by other weights ({stream.fingerprint.hex()}, these are "
                f"{self._fingerprint.hex()}): decode with the model that made it"
            )
        signals, (per_signal, odd) = stream.shape[0], divmod(len(stream.chunks), stream.shape[0])
        if odd or stream.rate >= self.num_rates:
            raise BitstreamError("the stream's header is malformed")
        decoded = []
        for i in range(signals):
            chunks = list(stream.chunks[i * per_signal : (i + 1) * per_signal])
            decoded.append(self.decode(chunks, (1, *stream.shape[1:]), stream.rate))
        return torch.cat(decoded).clamp_(0, 1)

    def reference(self, x: Tensor, rate: int = -1) -> Tensor:
        """What ``decompress`` approximates at this rate, e.g. ``x`` at a layer's resolution."""
        return x

    @torch.no_grad()
    def estimate(self, x: Tensor, rate: int = -1) -> float:
        """Estimated bits of the whole batch ``x`` at this rate: ``-sum log2 p``, no header.

        Here rate ``r`` costs reconstructions ``0 ... r``; a codec whose rates do not build on
        each other overrides this.
        """
        parts = self(x)
        parts = parts[: rate % self.num_rates + 1] if self.num_rates > 1 else parts
        return sum(bits(p).item() for r in parts for p in r.likelihoods.values())

    def aux_loss(self) -> Tensor:
        """Distance of the quantiles from where the densities want them, summed; 0 without any."""
        losses = [bottleneck.loss() for bottleneck in self.entropy_bottlenecks()]
        return torch.stack(losses).sum() if losses else torch.zeros(())

    def entropy_bottlenecks(self) -> list[EntropyBottleneck]:
        """All factorised priors, the codec's own and those of codecs within it."""
        return [m for m in self.modules() if isinstance(m, EntropyBottleneck)]

    @torch.no_grad()
    def update(self, solve_quantiles: bool = False) -> None:
        """Fix the integer range-coder tables, then the fingerprint of the weights.

        Work on a deep copy of a codec that trains on: tables do not belong in checkpoints.

        Args:
            solve_quantiles: first put the quantiles of the entropy bottlenecks where the aux
                loss is 0 (bisection), whatever the aux optimizer left.
        """
        for module in self.modules():
            if isinstance(module, EntropyBottleneck):
                module.update(force=True, update_quantiles=solve_quantiles)
            elif isinstance(module, EntropyModel):
                module.update_scale_table(get_scale_table().tolist(), force=True)
        self.fix_fingerprint()

    def fix_fingerprint(self) -> None:
        """Name the weights and tables by a hash of their names, types, shapes and bytes."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            tensor = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
            digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
        self._fingerprint = digest.digest()[:FINGERPRINT_BYTES]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Give the tables the size they have in the file before they are copied."""
        for name, module in self.named_modules():
            if isinstance(module, EntropyModel):
                for table in TABLES:
                    saved = state_dict.get(f"{prefix}{name}.{table}")
                    if saved is not None and hasattr(module, table):
                        device = getattr(module, table).device
                        setattr(module, table, torch.empty_like(saved, device=device))
        self._fingerprint = None
        super()._load_from_state_dict(state_dict, prefix, *args)


def bits(likelihoods: Tensor) -> Tensor:
    """``-sum log2 p`` of all elements, in bits, in float32 whatever the autocast says."""
    return likelihoods.float().log().sum() / -math.log(2)
