"""Evaluate a codec by its files: every row is a file on disk, decoded from that file.

Conventions of every row: bytes are the file's length; pixels are those of the reference at that
rate, never padding; PSNR and MS-SSIM compare 8-bit images; a number from likelihoods is called
estimated. Means are over images, of values computed per image.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lic_train import accounts, metrics
from lic_train.bitstream import Bitstream
from lic_train.codec import Codec
from lic_train.errors import DataError
from lic_train.rate_gap import RateGap, rate_gap

Decoder = Callable[[Path], tuple[Tensor, float]]
"""Decodes a file to ``(..., C, H, W)`` uint8 pixels and says how many seconds that took."""


class Signal(Protocol):
    """An image with a name; what a dataset of images yields."""

    @property
    def name(self) -> str: ...

    @property
    def pixels(self) -> Tensor:
        """``(..., 3, H, W)``, ``uint8``: of an image, or of several in order."""
        ...


@dataclass(frozen=True)
class RDPoint:
    """One image at one rate. The fields, in this order, are the columns of the CSV."""

    dataset: str
    image: str
    codec: str
    rate: int
    """Index of the operating point; of an anchor: its quality setting."""
    lmbda: float | None
    width: int
    height: int
    bytes: int
    """Length of the file, header included."""
    bpp: float
    """``8 bytes / (width height)``, over the images of the signal: measured."""
    bpp_estimated: float | None
    """``-sum log2 p / (width height)``: what the likelihoods promise. Never shown as a rate."""
    psnr: float
    """dB, 8-bit; ``inf`` when lossless."""
    ms_ssim: float
    """[0, 1], 8-bit; NaN for images too small for it."""
    encode_s: float
    """Seconds from pixels on the device to the file's bytes in memory; writing is not timed."""
    decode_s: float
    """Seconds from the file's bytes in memory to 8-bit pixels; reading is not timed."""
    device: str


def clock(device: str | torch.device) -> float:
    """Seconds on a monotonic clock, read when all that was given to the device is done.

    A GPU call returns before its work does: unsynchronised timings are too good.
    """
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def local_decoder(codec: Codec, device: str = "cpu") -> Decoder:
    """A decoder that runs here. ``decoder_process.DecoderProcess`` is the one reports use."""

    def decode(path: Path) -> tuple[Tensor, float]:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}") from error
        start = clock(device)
        pixels = metrics.to_uint8(codec.decompress(Bitstream.from_bytes(data))[0])
        return pixels.cpu(), clock(device) - start

    return decode


@torch.no_grad()
def evaluate(
    codec: Codec,
    signals: Iterable[Signal],
    *,
    dataset: str,
    name: str,
    lmbda: float | None,
    out_dir: Path | None = None,
    decoder: Decoder | None = None,
    device: str = "cpu",
    save_images: int = 0,
    gaps: list[RateGap] | None = None,
    progress: Callable[[RDPoint], None] | None = None,
) -> list[RDPoint]:
    """Code every signal at every rate to a real file, decode that file, compare.

    Args:
        codec: on ``device``, in eval mode, its tables fixed (``codec.update()``).
        signals: with a ``name`` and ``(..., 3, H, W)`` uint8 ``pixels``; names are unique.
        dataset, name, lmbda: what the rows say in ``dataset``, ``codec`` and ``lmbda``.
        out_dir: keeps ``bitstreams/<image>_r<rate>.lic`` and ``reconstructions/``; without it
            the files live in a temporary folder.
        decoder: decodes a file; by default here, with ``codec`` itself.
        device: where the encoder runs.
        save_images: of how many signals, from the first, the decoded images are kept as PNG in
            ``out_dir/reconstructions``.
        gaps: if given, the rate gap of every file is added to it.
        progress: called with each row as it is measured.

    Returns:
        One row per signal and rate, in that order.

    Raises:
        DataError: two signals would share their files, or there are none.
        LicError: what the codec or the decoder raises.
    """
    decoder = decoder or local_decoder(codec, device)
    points: list[RDPoint] = []
    seen: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        streams = (out_dir or Path(scratch)) / "bitstreams"
        streams.mkdir(parents=True, exist_ok=True)
        for signal in signals:
            label = own_label(signal.name, seen, dataset)
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
                reference = metrics.to_uint8(codec.reference(x, rate)[0]).cpu()
                height, width = reference.shape[-2:]
                images = reference[..., 0, 0, 0].numel()
                size = path.stat().st_size
                estimated = codec.estimate(x, rate)
                row: dict[str, Any] = {"dataset": dataset, "image": signal.name, "codec": name}
                row |= {"rate": rate, "lmbda": lmbda}
                if gaps is not None:
                    gaps.append(rate_gap(Bitstream.from_bytes(data), estimated, entries, **row))
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
                )
                points.append(point)
                if out_dir and len(seen) <= save_images:
                    for where in np.ndindex(*decoded.shape[:-3]):  # once, (), of a single image
                        named = "_".join([f"{label}_r{rate}", *(f"{i:03d}" for i in where)])
                        write_png(decoded[where], out_dir / "reconstructions" / f"{named}.png")
                if progress:
                    progress(point)
    if not points:
        raise DataError(f"there are no images in {dataset}: check its folder")
    return points


def write_png(pixels: Tensor, path: Path) -> None:
    """Write ``(3, H, W)`` uint8 pixels, atomically."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(buffer, format="PNG")
    write_whole(path, buffer.getvalue())


def write_csv(points: Sequence[Any], path: Path, row: Any = RDPoint) -> None:
    """Write one row per point, a dataclass ``row``, atomically. ``None`` and NaN are empty; floats
    lose nothing."""
    columns = [f.name for f in fields(row)]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for point in points:
        values = [getattr(point, c) for c in columns]
        writer.writerow(["" if v is None or v != v else v for v in values])
    write_whole(path, text.getvalue().encode())


def read_csv(path: Path) -> list[RDPoint]:
    """Read what ``write_csv`` wrote; columns it does not know are ignored.

    Raises:
        DataError: no such file, a column is missing, or a value is not of its column's type.
    """
    columns = [f.name for f in fields(RDPoint)]
    integers = ("rate", "width", "height", "bytes")
    texts = ("dataset", "image", "codec", "device")
    optional = ("lmbda", "bpp_estimated")

    def value(column: str, text: str) -> Any:
        if column in texts:
            return text
        if column in integers:
            return int(text)
        if not text:
            return None if column in optional else math.nan
        return float(text)

    try:
        with path.open(newline="") as file:
            table = csv.DictReader(file)
            if missing := set(columns) - set(table.fieldnames or ()):
                raise ValueError(f"without {', '.join(sorted(missing))}")
            return [RDPoint(**{c: value(c, row[c]) for c in columns}) for row in table]
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is not a table of RD points ({error}): evaluate again") from error


def summary(points: Sequence[RDPoint]) -> dict[str, Any]:
    """What ``rd_summary.json`` holds: per dataset, codec, lmbda and rate, the means over images.

    A mean that is not finite (a lossless image, MS-SSIM of small images) is ``None``, because JSON
    has no such numbers. MS-SSIM means are over the ``images_with_ms_ssim`` alone.
    """
    groups: dict[tuple[str, str, float | None, int], list[RDPoint]] = {}
    for p in points:
        groups.setdefault((p.dataset, p.codec, p.lmbda, p.rate), []).append(p)
    return {
        "convention": "8-bit images; each value per image, then the mean over images; "
        "bpp from the length of the file",
        "points": [
            dict(zip(("dataset", "codec", "lmbda", "rate"), key, strict=True)) | _means(group)
            for key, group in groups.items()
        ],
    }


def write_summary(points: Sequence[RDPoint], path: Path) -> None:
    """Write ``summary(points)`` as JSON, atomically."""
    write_whole(path, (json.dumps(summary(points), indent=2, allow_nan=False) + "\n").encode())


def _means(group: Sequence[RDPoint]) -> dict[str, Any]:
    def mean(values: Iterable[float]) -> float | None:
        result = float(np.mean(list(values) or [math.nan]))
        return result if math.isfinite(result) else None

    estimates = [p.bpp_estimated for p in group if p.bpp_estimated is not None]
    similarities = [p.ms_ssim for p in group if not math.isnan(p.ms_ssim)]
    similarity = mean(similarities)
    of_mean = math.nan if similarity is None else metrics.ms_ssim_db(similarity)
    return {
        "images": len(group),
        "bpp": mean(p.bpp for p in group),
        "bpp_estimated": mean(estimates) if len(estimates) == len(group) else None,
        "psnr": mean(p.psnr for p in group),
        "images_with_ms_ssim": len(similarities),
        "ms_ssim": similarity,
        "ms_ssim_mean_of_db": mean(map(metrics.ms_ssim_db, similarities)),
        "ms_ssim_db_of_mean": mean([of_mean]),
        "encode_s": mean(p.encode_s for p in group),
        "decode_s": mean(p.decode_s for p in group),
    }


def file_label(name: str) -> str:
    """A name may hold the folder below the dataset's: keep the file in one folder all the same."""
    return name.replace("/", "_").replace(os.sep, "_")


def own_label(name: str, taken: dict[str, str], dataset: str) -> str:
    """``file_label(name)``, added to ``taken``, which says whose each label is.

    Raises:
        DataError: another image has it.
    """
    label = file_label(name)
    if label in taken:
        raise DataError(
            f"two images of {dataset}, {taken[label]} and {name}, would both be {label}_r0.lic: "
            "rename one"
        )
    taken[label] = name
    return label


def write_whole(path: Path, data: bytes) -> None:
    """Write all or nothing: a reader, or a run that is killed, never meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
