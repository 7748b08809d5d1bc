"""Encode and decode seconds beside CompressAI's own classes with the same weights, in one run.

    python scripts/benchmarks/coding_speed.py [--image PHOTO] [--runs 5] [--run DIR ...]

Every codec codes one 768x512 photograph; the implementations take turns, so that a machine whose
speed drifts slows both. Medians are printed, ratios within the run are what counts. Weights are
random but for their scale, unless runs (exported models) are given: then it is the trained ones.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from compressai.models import (
    JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior,
    ScaleHyperprior,
)
from rich.console import Console
from rich.table import Table

from lic_train.codec import Codec
from lic_train.codec.bitstream import Bitstream
from lic_train.codec.export import load_codec, ready_copy
from lic_train.data.io.images import read_image
from lic_train.data.sources import Samples
from lic_train.modules.codecs.context_only import ContextOnly
from lic_train.modules.codecs.edic import EDIC
from lic_train.modules.codecs.joint_prior import JointPrior
from lic_train.modules.codecs.mean_scale import MeanScale
from lic_train.modules.codecs.scale_only import ScaleOnly

THEIRS: dict[type, Any] = {
    ScaleOnly: ScaleHyperprior,
    MeanScale: MeanScaleHyperprior,
    JointPrior: JointAutoregressiveHierarchicalPriors,
}


def photograph(path: Path | None) -> torch.Tensor:
    """``(1, 3, 512, 768)`` in [0, 1]: the given image or kodim23, its top left corner."""
    source = Samples("eval")
    names = [source.name(i) for i in range(len(source))]
    pixels = read_image(path).pixels if path else source.pixels(names.index("kodim23"))
    x = pixels[None, :, :512, :768].float() / 255
    if x.shape[-2:] != (512, 768):
        raise SystemExit(f"the image is smaller than 768x512: {tuple(pixels.shape)}")
    return x


def untrained() -> list[Codec]:
    """Codecs whose latents are spread like those of trained ones."""
    codecs: list[Codec] = [
        ScaleOnly(),
        MeanScale(),
        EDIC(enhancement_channels=0),
        EDIC(),
        ContextOnly(),
        JointPrior(),
    ]
    for codec in codecs:
        with torch.no_grad():
            codec.g_a[-1].weight *= 8  # type: ignore[union-attr, index, operator]
    return [ready_copy(codec) for codec in codecs]


def timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@torch.no_grad()
def measure(codec: Codec, x: torch.Tensor, runs: int) -> dict[str, float]:
    """Median seconds of both implementations, of the networks alone, and the bytes of both."""
    theirs = None
    if type(codec) in THEIRS:
        theirs = THEIRS[type(codec)](codec.g_a[0].out_channels, codec.g_a[-1].out_channels)
        theirs.load_state_dict(codec.state_dict())
        theirs.eval()
    seconds: dict[str, list[float]] = {}
    sizes: dict[str, int] = {}

    y = codec.analyse(x)
    stream = codec.compress(x).to_bytes()
    sizes["bytes"] = len(stream)
    contestants: dict[str, Callable[[], Any]] = {
        "encode": lambda: codec.compress(x).to_bytes(),
        "decode": lambda: codec.decompress(Bitstream.from_bytes(stream)),
        "g_a": lambda: codec.analyse(x),
        "g_s": lambda: codec.synthesise(y, 512, 768),
    }
    if theirs is not None:
        out = theirs.compress(x)
        sizes["their bytes"] = sum(len(s[0]) for s in out["strings"])
        contestants["their encode"] = lambda: theirs.compress(x)
        contestants["their decode"] = lambda: theirs.decompress(out["strings"], out["shape"])
    for function in contestants.values():
        function()  # warm-up
    for _ in range(runs):
        for name, function in contestants.items():
            seconds.setdefault(name, []).append(timed(function))
    return {name: statistics.median(values) for name, values in seconds.items()} | sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--run", type=Path, nargs="*", default=[], help="exported models")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    x = photograph(options.image)
    codecs = [load_codec(run) for run in options.run] or untrained()
    table = Table(title=f"768x512, {torch.get_num_threads()} threads, median of {options.runs}")
    for header in (
        "codec", "encode s", "decode s", "CompressAI enc", "CompressAI dec",
        "enc ratio", "dec ratio", "coder / networks", "bytes", "CompressAI bytes",
    ):  # fmt: skip
        table.add_column(header, justify="right")
    for codec in codecs:
        m = measure(codec, x, options.runs)
        networks = m["g_a"] + m["g_s"]
        name = type(codec).__name__
        if getattr(codec, "gmm_k", 0):
            enhanced = not isinstance(codec.enhancement, torch.nn.Identity)
            name += f" K={codec.gmm_k}{' + enhancement' if enhanced else ''}"
        row = [name, f"{m['encode']:.3f}", f"{m['decode']:.3f}"]
        if "their encode" in m:
            row += [f"{m['their encode']:.3f}", f"{m['their decode']:.3f}"]
            row += [f"{m['their encode'] / m['encode']:.2f}"]
            row += [f"{m['their decode'] / m['decode']:.2f}"]
        else:
            row += ["-"] * 4
        row += [f"{(m['encode'] + m['decode'] - networks) / networks:.0%}", str(m["bytes"])]
        row += [str(m.get("their bytes", "-"))]
        table.add_row(*row)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
