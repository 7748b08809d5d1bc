"""The evaluation of COMPASS: layers in one file against simulcast and a single layer, real bytes.

    python scripts/benchmarks/compass_tables.py RUN [RUN ...] --data FOLDER
        [--longest-side 768] [--limit N]

Two layers: the upper one 1.2 ... 2.8 times the base, which is a quarter of the image a side.
Three: the second at 2.0, the third 2.4 ... 4.0 times. Simulcast codes every layer with the base
codec to a file of its own, single layer the last one only, padded as COMPASS pads (the authors pad
to multiples of 64). Bits per pixel of the last layer; PSNR of 8-bit images and, in the column
"float", of clamped floats; means over images. One run is one point; with four lambdas or more
BD-rate of COMPASS against both is printed, negative where it saves.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from lic_train.codec import Codec
from lic_train.codec.bitstream import Bitstream
from lic_train.codec.export import load_codec
from lic_train.codec.signal import to_uint8
from lic_train.data.datamodule import Signals
from lic_train.data.sources import ImageFolder
from lic_train.errors import LicError
from lic_train.rd import metrics
from lic_train.rd.bd import bd_rate
from lic_train.rd.curves import Curve

BASE = 0.25
TABLES = {
    "two layers": [(BASE, BASE * e) for e in (1.2, 1.6, 2.0, 2.4, 2.8)],
    "three layers": [(BASE, 2 * BASE, BASE * e) for e in (2.4, 2.8, 3.2, 3.6, 4.0)],
}
METHODS = ("compass", "simulcast", "single layer")


class Coded(NamedTuple):
    """One image: bytes of the file, PSNR of 8-bit and of clamped float pixels."""

    size: int
    psnr: float
    psnr_float: float


def code(codec: Codec, x: Tensor) -> Coded:
    """Through a file and back, against the finest reference."""
    data = codec.compress(x).to_bytes()
    decoded, reference = codec.decompress(Bitstream.from_bytes(data)), codec.reference(x)
    mse = (decoded - reference).square().mean().item() + 1e-8
    psnr = metrics.psnr(to_uint8(decoded[0]), to_uint8(reference[0]))
    return Coded(len(data), psnr, -10 * math.log10(mse))


def measure(run: Path, scales: tuple[float, ...], images: list[Tensor]) -> dict[str, list[float]]:
    """Mean (bpp, PSNR, PSNR of floats) of each method at these scales."""
    codec = load_codec(run, overrides=[f"scales={list(scales)}"])
    base = codec.part("base")
    assert isinstance(base, Codec)
    base.fix_fingerprint()
    rows: dict[str, list[tuple[float, float, float]]] = {method: [] for method in METHODS}
    for x in images:
        layers = [codec.reference(x, rate) for rate in range(len(scales))]
        pixels = layers[-1].shape[-2] * layers[-1].shape[-1]
        single = code(base, layers[-1])
        below = sum(len(base.compress(layer).to_bytes()) for layer in layers[:-1])
        simulcast = single._replace(size=single.size + below)
        for method, coded in zip(METHODS, (code(codec, x), simulcast, single), strict=True):
            rows[method].append((8 * coded.size / pixels, coded.psnr, coded.psnr_float))
    return {method: np.mean(values, axis=0).tolist() for method, values in rows.items()}


def curve(name: str, points: list[list[float]]) -> Curve:
    """Points of several lambdas as ``lic_train.rd.curves`` wants them."""
    ordered = sorted(points)
    bpp, psnr = (np.array([p[i] for p in ordered]) for i in (0, 1))
    none = np.full(len(ordered), math.nan)
    steps = tuple(range(len(ordered)))
    return Curve(name, steps, (None,) * len(steps), bpp, psnr, none, none, none, none, 0)


def saved(anchor: str, points: dict[str, list[list[float]]]) -> str:
    """BD-rate of COMPASS against one method, or why there is none."""
    try:
        return f"{bd_rate(curve(anchor, points[anchor]), curve('compass', points['compass'])):+.2f}"
    except LicError as error:
        return f"no BD-rate ({error})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--longest-side", type=int, default=None, metavar="PIXELS")
    parser.add_argument("--split", choices=("train", "eval"), help="eval: every third file")
    parser.add_argument("--limit", type=int, default=None, metavar="N")
    options = parser.parse_args()
    source = ImageFolder(
        options.data, split=options.split, limit=options.limit, longest_side=options.longest_side
    )
    images = [signal.pixels[None].float() / 255 for signal in Signals(source)]
    for table, ladder in TABLES.items():
        print(f"\n{table}, {len(images)} images: bpp, PSNR dB, float", flush=True)
        for scales in ladder:
            points: dict[str, list[list[float]]] = {method: [] for method in METHODS}
            for run in options.runs:
                for method, values in measure(run, scales, images).items():
                    points[method].append(values)
                    bpp, psnr, psnr_float = values
                    name = f"{scales[-1] / BASE:.1f}x  {run.resolve().name:10} {method:13}"
                    print(f"  {name} {bpp:.4f} {psnr:6.2f} {psnr_float:6.2f}", flush=True)
            if len(options.runs) > 1:
                for anchor in METHODS[1:]:
                    print(f"  {scales[-1] / BASE:.1f}x  against {anchor}: {saved(anchor, points)}")


if __name__ == "__main__":
    main()
