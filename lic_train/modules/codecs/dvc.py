"""DVC: frames predicted from decoded frames by coded motion, and the coded residual."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lic_train.codec import Codec, Reconstruction
from lic_train.codec.bitstream import Bitstream
from lic_train.codec.contract import Shape
from lic_train.errors import BitstreamError, ModelError
from lic_train.modules.codecs.base.frames import (
    INTRA,
    LEVELS,
    PREDICTED,
    CodePart,
    Decode,
    Encode,
    Estimate,
)
from lic_train.modules.codecs.base.transform import TransformCodec, joined, refuse_rates
from lic_train.modules.entropy.exact import exactly, snap
from lic_train.modules.layers.motion import warp


class Steps(NamedTuple):
    """One frame on its way, each ``(N, 3, H, W)``; intra frames take none of its steps."""

    uncoded_warp: Tensor
    """The reference moved by the motion before it is coded; out of training as ``warped``."""
    warped: Tensor
    prediction: Tensor
    x_hat: Tensor


class DVC(Codec):
    """Lu, Ouyang, Xu, Zhang, Cai, Gao 2019, "DVC: An End-to-end Deep Video Compression Framework"
    (CVPR 2019, arXiv 1812.00101).

    ::

        first frame of a group: x_0 -> intra -> x_hat_0
        every other: (x_t, x_hat_t-1) -> motion -> v -> motion_codec -> v_hat
                     warp(x_hat_t-1, v_hat) -> compensation -> prediction
                     x_t - prediction -> residual -> + prediction -> x_hat_t

    Decoding, every network that leads to a frame runs in float64 and the frame is rounded to 8
    bits before the next one refers to it, so that encoder and decoder never drift apart; a check
    of each frame's pixels in the file proves it. A chunk is a frame; a group of pictures decodes
    alone and a file cut short to its last whole frame. Not reproduced: the paper's buffer of
    earlier reconstructions (train on longer clips), its Laplace densities, its data.

    Args:
        intra: codes the first frame of each group.
        residual: codes the residual of the prediction, signed; None: the prediction is the frame.
        motion: ``(x, reference) -> v``, encoder only; None: nothing moves, and no motion is sent.
        motion_codec: of fields of 2 channels; there where ``motion`` is.
        compensation: ``(warped, reference, v_hat) -> prediction``; None: the warped frame is it.
        gop: frames in a group of pictures, 1 or more. The file says what it has.
        intra_weight: share of the intra frames in the loss; 0 where their codec is frozen.
        motion_weight: share of the frames as warped by the motion before it is coded, by which the
            motion is learnt while its codec cannot code it yet.
        warp_weight: share of the warped frames, which follow the frames in what ``forward`` gives.
        prediction_weight: share of the predictions, as well.
        detach_reference: in training, let no gradient through a reference into earlier frames.

    Raises:
        ModelError: parts that do not go together.
    """

    signal_dims = 5

    def __init__(
        self,
        intra: TransformCodec,
        residual: TransformCodec | None = None,
        motion: nn.Module | None = None,
        motion_codec: TransformCodec | None = None,
        compensation: nn.Module | None = None,
        gop: int = 12,
        intra_weight: float = 1.0,
        motion_weight: float = 0.0,
        warp_weight: float = 0.0,
        prediction_weight: float = 0.0,
        detach_reference: bool = False,
    ) -> None:
        super().__init__()
        coders = [c for c in (intra, residual, motion_codec) if c is not None]
        if any(not isinstance(c, TransformCodec) for c in coders):
            raise ModelError("intra, residual and motion_codec must each be a transform codec")
        refuse_rates(*coders)
        if (motion is None) != (motion_codec is None):
            raise ModelError("give motion and motion_codec both, or neither")
        if motion_codec is not None and motion_codec.channels != 2:
            raise ModelError(f"motion_codec codes {motion_codec.channels} channels, motion has 2")
        if gop < 1:
            raise ModelError(f"gop is {gop}: a group has at least 1 frame")
        if motion_codec is not None and motion_codec.start == "random":
            _keep_scale(motion_codec.g_a)
            _keep_scale(motion_codec.g_s)
        for coder in (residual, motion_codec):
            if coder is not None:
                coder.begin_signed(strength=0.1)
        self.intra, self.residual = intra, residual
        self.motion, self.motion_codec = motion, motion_codec
        self.compensation = compensation
        self.random_access = gop
        self.intra_weight, self.motion_weight = intra_weight, motion_weight
        self.warp_weight = warp_weight
        self.prediction_weight, self.detach_reference = prediction_weight, detach_reference
        self.train()

    def train(self, mode: bool = True) -> DVC:
        """Frozen codecs among its parts are in eval mode in training too, but need not be exact."""
        super().train(mode)
        for coder in (self.intra, self.residual, self.motion_codec):
            if coder is not None:
                coder.exact = not mode
        return self

    # --- one frame ---------------------------------------------------------------------------
    def frame(self, x: Tensor | None, reference: Tensor | None, code: CodePart) -> Steps:
        """One frame, intra without a reference. In ``forward``, ``encode`` and ``decode`` this is
        the same walk with another ``code``, so they cannot disagree.

        Args:
            x: ``(N, 3, H, W)``; None when decoding.
            reference: the decoded frame before it, 8-bit levels in [0, 1] out of training.
            code: what happens to the signals on the way.
        """
        if reference is None:
            x_hat = self._shown(code("intra", x))
            return Steps(x_hat, x_hat, x_hat, x_hat)
        motion = None
        if self.motion is not None and x is not None:
            motion = self.motion(x, reference).float()
        motion_hat = self._coded(motion, reference, code)
        reference = reference.to(motion_hat.dtype)
        uncoded_warp = warped = warp(reference, motion_hat)
        if self.training and self.motion_weight > 0 and motion is not None:
            uncoded_warp = warp(reference, motion)
        prediction = self._run(self.compensation, warped, reference, motion_hat)
        x_hat = prediction
        if self.residual is not None:
            residual = None if x is None else (x - prediction).float()
            x_hat = prediction + code("residual", residual)
        return Steps(uncoded_warp, warped, prediction, self._shown(self.enhance(x_hat)))

    def enhance(self, x_hat: Tensor) -> Tensor:
        """What is done to a predicted frame before it is shown and referred to: here nothing."""
        return x_hat

    def _coded(self, motion: Tensor | None, reference: Tensor, code: CodePart) -> Tensor:
        """v_hat, decoded; float64 in multiples of a 256th of a pixel out of training."""
        if self.motion is None:
            still = torch.zeros_like(reference[:, :2])
            return still if self.training else still.double()
        motion_hat = code("motion_codec", motion)
        return motion_hat.float() if self.training else snap(motion_hat)

    def _run(self, module: nn.Module | None, x: Tensor, *others: Tensor) -> Tensor:
        """``module(x, *others)``, in float64 out of training; without a module, x."""
        if module is None:
            return x
        out: Tensor = module(x, *others) if self.training else exactly(module, x, *others)
        return out.float() if self.training else out

    def _shown(self, x_hat: Tensor) -> Tensor:
        """In training as it is; else what an 8-bit display shows, which is what frames refer to."""
        if self.training:
            return x_hat.float()
        return (torch.round(x_hat.double().clamp(0, 1) * LEVELS) / LEVELS).float()

    # --- clips -------------------------------------------------------------------------------
    def forward(self, x: Tensor) -> list[Reconstruction]:
        if self.training or len(x) == 1:
            return self._reconstructions(x)
        clips = [self._reconstructions(clip) for clip in x.split(1)]  # as they are coded
        return [joined(list(parts)) for parts in zip(*clips, strict=True)]

    def _reconstructions(self, x: Tensor) -> list[Reconstruction]:
        frames: list[Reconstruction] = []
        terms: list[Reconstruction] = []
        share = 1 / x.shape[1]
        reference: Tensor | None = None
        for t, target in enumerate(x.unbind(1)):
            reference = None if t % self.random_access == 0 else reference
            code = Estimate(self)
            uncoded_warp, warped, prediction, x_hat = self.frame(target, reference, code)
            weight = share * (self.intra_weight if reference is None else 1)
            frames.append(Reconstruction(x_hat, target, code.likelihoods, f"frame{t:02d}", weight))
            if reference is not None and self.motion_weight > 0:
                terms.append(
                    _term(uncoded_warp, target, f"motion{t:02d}", share * self.motion_weight)
                )
            if reference is not None and self.warp_weight > 0:
                terms.append(_term(warped, target, f"warp{t:02d}", share * self.warp_weight))
            if reference is not None and self.prediction_weight > 0:
                weight = share * self.prediction_weight
                terms.append(_term(prediction, target, f"prediction{t:02d}", weight))
            reference = (x_hat.detach() if self.detach_reference else x_hat).clamp(0, 1)
        return frames + terms

    @torch.no_grad()
    def reconstruct(self, x: Tensor, rate: int = -1) -> Tensor:
        return torch.stack([r.x_hat for r in self(x)[: x.shape[1]]], dim=1)

    # --- the file ----------------------------------------------------------------------------
    def encode(self, x: Tensor, rate: float) -> list[bytes]:
        chunks: list[bytes] = []
        x_hat = x[:, 0]
        for t, target in enumerate(x.unbind(1)):
            kind = PREDICTED if t % self.random_access else INTRA
            code = Encode(self)
            x_hat = self.frame(target, x_hat if kind == PREDICTED else None, code).x_hat
            chunks.append(code.chunk(kind, x_hat))
        return chunks

    def decode(self, chunks: list[bytes], shape: Shape, rate: int) -> Tensor:
        if len(shape) != 5 or shape[1] != len(chunks) or shape[2] != 3:
            raise BitstreamError("the stream does not hold what this codec writes")
        frames: list[Tensor] = []
        for chunk in chunks:
            kind = chunk[:1]
            if kind not in (INTRA, PREDICTED) or (kind == PREDICTED and not frames):
                raise BitstreamError("a frame of the stream is of no known kind: it is malformed")
            code = Decode(self, self.coders(kind), chunk, (1, *shape[2:]))
            frames.append(self.frame(None, frames[-1] if kind == PREDICTED else None, code).x_hat)
            code.verify(frames[-1])
        return torch.stack(frames, dim=1)

    def coders(self, kind: bytes) -> list[TransformCodec]:
        """Whose chunks a frame of this kind is made of, in the order of the file."""
        all_three = (self.intra, self.motion_codec, self.residual)
        return [c for c in (all_three[1:] if kind == PREDICTED else all_three[:1]) if c is not None]

    def salvage(self, stream: Bitstream) -> Bitstream:
        """The frames that are whole."""
        if len(stream.shape) != 5 or stream.shape[0] != 1 or not stream.chunks:
            raise BitstreamError("the stream was cut short before its second frame: copy it again")
        count = min(len(stream.chunks), stream.shape[1])
        shape = (1, count, *stream.shape[2:])
        return replace(stream, chunks=stream.chunks[:count], shape=shape)

    def group(self, stream: Bitstream, number: int) -> Bitstream:
        """One group of pictures of a file of one clip as a file of its own: nothing is coded again.

        Raises:
            BitstreamError: the stream has no such group, or is of other weights.
        """
        (chunks,) = self._signals(replace(stream, shape=(1, *stream.shape[1:])))
        starts = [t for t, c in enumerate(chunks) if c[:1] == INTRA] + [len(chunks)]
        if not 0 <= number < len(starts) - 1:
            raise BitstreamError(f"group {number} asked for, the stream has {len(starts) - 1}")
        own = chunks[starts[number] : starts[number + 1]]
        return replace(stream, chunks=tuple(own), shape=(1, len(own), *stream.shape[2:]))


def _keep_scale(transform: nn.Module) -> None:
    """Start convolutions so that each keeps its signal's size.

    As torch starts them, each halves it: latents of motions of a few pixels round to nothing, what
    is decoded from them moves nothing, and so they stay.
    """
    for layer in transform.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight)
            if isinstance(layer, nn.ConvTranspose2d):
                layer.weight.data *= layer.stride[0]  # not every weight meets every pixel
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _term(step: Tensor, target: Tensor, name: str, weight: float) -> Reconstruction:
    return Reconstruction(step.float(), target, {}, name, weight)
