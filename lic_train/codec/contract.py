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

from lic_train.codec.bitstream import FINGERPRINT_BYTES, Bitstream
from lic_train.errors import BitstreamError, ModelError

Shape = tuple[int, ...]
KINDS = {4: "images (N, C, H, W)", 5: "clips (N, T, C, H, W)"}
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
        lmbda: own trade-off, of all or of each of the N images ``(N,)``; ``None`` means the run's.
    """

    x_hat: Tensor
    target: Tensor
    likelihoods: dict[str, Tensor]
    name: str = "image"
    weight: float = 1.0
    lmbda: float | Tensor | None = None


class Codec(nn.Module, ABC):
    """Base class of every codec. A new codec writes ``forward``, ``encode`` and ``decode``.

    Signals are ``(N, C, H, W)`` or, for video, ``(N, T, C, H, W)``, in [0, 1].
    """

    num_rates: int = 1
    """Operating points of one set of weights, coarse 0 ... fine ``num_rates - 1``."""
    signal_dims: int = 4
    """Dimensions of the signals: 4 of images ``(N, C, H, W)``, 5 of clips ``(N, T, C, H, W)``."""
    random_access: int = 1
    """Every so many pictures of a signal one is coded alone, and decoding may begin there."""
    real_rates: bool = False
    """Whether ``encode`` also takes every real rate between two operating points."""

    own_lmbda: bool = False
    """Whether the run's lambda changes nothing: the codec has its own, or a rate it cannot change.
    Tables then show none."""

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

    def decodes(self, rate: int) -> bool:
        """Whether a stream of this rate can be of these weights, whatever their settings now."""
        return 0 <= rate < self.num_rates

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
            ModelError: ``update`` was not called, no such rate, or no such signal.
        """
        fingerprint, last = self._ready(), self.num_rates - 1
        self.accept(x)
        if not -self.num_rates <= rate <= last:  # nan is refused too
            raise ModelError(f"rate {rate:g} asked for, the codec has 0 ... {last}")
        if rate == int(rate):
            rate = int(rate) % self.num_rates
        elif rate < 0 or not self.real_rates:
            raise ModelError(f"rate {rate:g} asked for, this codec has whole rates only")
        chunks = [c for signal in x.split(1) for c in self.encode(signal, rate)]
        return Bitstream(tuple(chunks), tuple(x.shape), math.ceil(rate), fingerprint)

    def cut(self, stream: Bitstream, rate: int) -> Bitstream:
        """The stream of a lower rate, from the chunks of a finer one: nothing is coded again.

        Raises:
            ModelError: the rates of this codec do not build on each other, or it is no lower one.
            BitstreamError: the stream is of other weights, or malformed.
        """
        signals, count = self._signals(stream), self.chunks_at(rate)
        if count is None:
            raise ModelError("the rates of this codec do not build on each other: compress anew")
        if not 0 <= rate <= stream.rate:
            raise ModelError(f"rate {rate} asked for, the stream holds 0 ... {stream.rate}")
        return replace(stream, chunks=tuple(c for s in signals for c in s[:count]), rate=rate)

    @torch.no_grad()
    def decompress(self, stream: Bitstream) -> Tensor:
        """The signal a stream holds, shape ``stream.shape``, clamped to [0, 1].

        Raises:
            BitstreamError: the stream is of other weights, or malformed.
            ModelError: ``update`` was not called.
        """
        shape = (1, *stream.shape[1:])
        decoded = [self.decode(chunks, shape, stream.rate) for chunks in self._signals(stream)]
        return torch.cat(decoded).clamp_(0, 1)

    def _signals(self, stream: Bitstream) -> list[list[bytes]]:
        """The chunks of each signal of a stream that these weights can decode."""
        fingerprint = self._ready()
        if stream.fingerprint != fingerprint:
            raise BitstreamError(
                f"the stream was made by other weights ({stream.fingerprint.hex()}, these are "
                f"{fingerprint.hex()}): decode with the model that made it"
            )
        per_signal, odd = divmod(len(stream.chunks), stream.shape[0])
        strange = len(stream.shape) != self.signal_dims or not self.decodes(stream.rate)
        if odd or not per_signal or strange:
            raise BitstreamError("the stream's header is malformed")
        starts = range(0, len(stream.chunks), per_signal)
        return [list(stream.chunks[i : i + per_signal]) for i in starts]

    def _ready(self) -> bytes:
        """The fingerprint, once there are tables to code with."""
        if self._fingerprint is None or self.training:
            raise ModelError("call codec.eval() and codec.update() before coding")
        return self._fingerprint

    def reference(self, x: Tensor, rate: int = -1) -> Tensor:
        """What ``decompress`` approximates at this rate, e.g. ``x`` at a layer's resolution."""
        return x

    def caveats(self) -> list[str]:
        """What this codec cannot promise of the contract, a line each; evaluations say so, and
        measure how far ``reconstruct`` is from what its files decode to."""
        return []

    def accept(self, x: Tensor) -> None:
        """Refuse signals of other dimensions than this codec's.

        Raises:
            ModelError: e.g. an image for a codec of clips.
        """
        if x.ndim != self.signal_dims:
            wanted = KINDS.get(self.signal_dims, f"signals of {self.signal_dims} dimensions")
            given = KINDS.get(x.ndim, f"{x.ndim} dimensions")
            raise ModelError(f"this codec codes {wanted}, what it was given are {given}")

    def salvage(self, stream: Bitstream) -> Bitstream:
        """The whole stream that a cut one, see ``Bitstream.beginning``, still holds.

        Raises:
            BitstreamError: nothing of this codec can be decoded from a part of its chunks.
        """
        raise BitstreamError("the stream was cut short: copy the file again")

    @torch.no_grad()
    def reconstruct(self, x: Tensor, rate: int = -1) -> Tensor:
        """What the file of this rate decodes to, from eval-mode ``forward``; unclamped.

        A codec that gives a rate in several reconstructions overrides this.
        """
        return self(x)[rate % self.num_rates].x_hat

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
        """Distance of the quantiles from where the densities want them, summed; 0 without any.

        Bottlenecks that are frozen have none."""
        losses = [b.loss() for b in self.entropy_bottlenecks() if _trains(b)]
        return torch.stack(losses).sum() if losses else torch.zeros(())

    def entropy_bottlenecks(self) -> list[EntropyBottleneck]:
        """All factorised priors, the codec's own and those of codecs within it."""
        return [m for m in self.modules() if isinstance(m, EntropyBottleneck)]

    def part(self, name: str) -> nn.Module:
        """A part of the codec by its path, e.g. ``"residual.g_a"``; ``""`` is all of it.

        Raises:
            ModelError: it has no such part.
        """
        try:
            return self.get_submodule(name)
        except AttributeError:
            parts = ", ".join(child for child, _ in self.named_children())
            raise ModelError(f"the codec has no part {name!r}: its parts are {parts}") from None

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


def _trains(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


def bits(likelihoods: Tensor) -> Tensor:
    """``-sum log2 p`` of all elements, in bits, in float32 whatever the autocast says."""
    return likelihoods.float().log().sum() / -math.log(2)
