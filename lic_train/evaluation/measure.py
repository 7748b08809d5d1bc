"""A codec is evaluated by its files: every row is a file on disk, decoded from that file.

Conventions of every row: bytes are the file's length; pixels are those of the reference at that
rate, never padding; PSNR and MS-SSIM compare 8-bit images; a number from likelihoods is called
estimated. Means are over images, of values computed per image.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lic_train.codec import Codec
from lic_train.codec.bitstream import Bitstream
from lic_train.codec.signal import Signal, num_images, to_uint8
from lic_train.errors import DataError
from lic_train.evaluation.forward_gap import ForwardGap, forward_psnr
from lic_train.evaluation.rate_gap import RateGap, rate_gap
from lic_train.evaluation.results import Evaluation, Labels
from lic_train.modules.entropy import accounts
from lic_train.rd import metrics
from lic_train.rd.points import RDPoint
from lic_train.utils.device import clock
from lic_train.utils.files import own_label, write_png

Decoder = Callable[[Path], tuple[Tensor, float]]
"""Decodes a file to ``(..., C, H, W)`` uint8 pixels and returns how many seconds that took."""


def local_decoder(codec: Codec, device: str = "cpu") -> Decoder:
    """Return a decoder that runs in this process; reports use ``DecoderProcess`` instead.

    Args:
        codec: on ``device``, in eval mode, its tables fixed.
        device: where it decodes.

    Raises:
        DataError: on decoding, when a file cannot be read.
        BitstreamError: on decoding, when a file is malformed or of other weights.
    """

    def decode(path: Path) -> tuple[Tensor, float]:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        start = clock(device)
        pixels = to_uint8(codec.decompress(Bitstream.from_bytes(data))[0])
        return pixels.cpu(), clock(device) - start

    return decode


@torch.no_grad()
def evaluate(
    codec: Codec,
    signals: Iterable[Signal],
    labels: Labels,
    *,
    out_dir: Path | None = None,
    decoder: Decoder | None = None,
    device: str = "cpu",
    save_images: int = 0,
    distances: Mapping[str, Callable[[Tensor, Tensor], float]] | None = None,
) -> Evaluation:
    """Code every signal at every rate to a real file, decode that file and compare.

    Args:
        codec: on ``device``, in eval mode, its tables fixed (``codec.update()``).
        signals: with a ``name`` and ``(..., 3, H, W)`` uint8 ``pixels``; names are unique.
        labels: what the rows say in ``dataset``, ``codec`` and ``lmbda``.
        out_dir: receives ``bitstreams/<image>_r<rate>.lic`` and ``reconstructions/``; without it
            the files are written to a temporary folder.
        decoder: decodes a file; by default in this process, with ``codec`` itself.
        device: where the encoder runs.
        save_images: number of signals, from the first, whose decoded images are kept as PNG in
            ``out_dir/reconstructions``.
        distances: more columns of a row, by name, from the decoded pixels and the reference.

    Returns:
        One row and one rate gap per signal and rate, in that order; as many forward gaps of a codec
        with caveats.

    Raises:
        DataError: two signals would share their files, or there are none.
        LicError: what the codec or the decoder raises.
    """
    decoder = decoder or local_decoder(codec, device)
    points: list[RDPoint] = []
    gaps: list[RateGap] = []
    forwards: list[ForwardGap] = []
    seen: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        streams = (out_dir or Path(scratch)) / "bitstreams"
        streams.mkdir(parents=True, exist_ok=True)
        for signal in signals:
            label = own_label(signal.name, seen, labels.dataset)
            x = signal.pixels[None].to(device).float() / 255
            if len(seen) == 1:
                # The first coding pays for kernels, caches and thread pools: it is not timed.
                warm_up = Path(scratch) / "warm_up.lic"
                warm_up.write_bytes(codec.compress(x, codec.num_rates - 1).to_bytes())
                decoder(warm_up)
            for rate in range(codec.num_rates):
                with accounts.kept() as entries:
                    start = clock(device)
                    data = codec.compress(x, rate).to_bytes()
                    encode_s = clock(device) - start
                path = streams / f"{label}_r{rate}.lic"
                path.write_bytes(data)
                decoded, decode_s = decoder(path)
                reference = to_uint8(codec.reference(x, rate)[0]).cpu()
                height, width = reference.shape[-2:]
                images = num_images(reference)
                size = path.stat().st_size
                estimated = codec.estimate(x, rate)
                row: dict[str, Any] = {**labels._asdict(), "image": signal.name, "rate": rate}
                gaps.append(rate_gap(Bitstream.from_bytes(data), estimated, entries, **row))
                further: dict[str, Any] = {
                    column: distance(decoded, reference)
                    for column, distance in (distances or {}).items()
                }
                point = RDPoint(
                    **row,
                    width=width,
                    height=height,
                    bytes=size,
                    bpp=metrics.bpp(size, width, height, images),
                    bpp_estimated=estimated / (width * height * images),
                    psnr=metrics.psnr(decoded, reference),
                    ms_ssim=metrics.ms_ssim(decoded, reference),
                    encode_s=encode_s,
                    decode_s=decode_s,
                    device=device,
                    **further,
                )
                points.append(point)
                if codec.caveats():
                    promised = forward_psnr(codec, x, rate, reference)
                    forwards.append(ForwardGap(**row, forward_psnr=promised, file_psnr=point.psnr))
                if out_dir and len(seen) <= save_images:
                    for where in np.ndindex(*decoded.shape[:-3]):  # once, (), of a single image
                        named = "_".join([f"{label}_r{rate}", *(f"{i:03d}" for i in where)])
                        write_png(out_dir / "reconstructions" / f"{named}.png", decoded[where])
    if not points:
        raise DataError(f"there are no images in {labels.dataset}: check its folder")
    return Evaluation(points, gaps, forwards)
