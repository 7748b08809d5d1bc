"""SSIM and PSNR of thumbnails at 16, 32, 64 and 128 payload bytes, beside headerless codecs.

    python scripts/benchmarks/thumbnail_table.py RUN [RUN ...] --data FOLDER --out DIR
        [--split] [--limit 96]

The table of Toderici et al. (arXiv:1511.06085). Payload is, of a run, the sum of the chunk lengths
of its streams; of JPEG (default Huffman tables, 4:2:0), JPEG 2000 and WebP, what
lic_train/headerless.py counts. `file B` counts everything. A run takes the finest rate whose mean
payload is at most the target; the others cannot hit a target and are given more: the lowest quality
whose mean payload is at least the target. A star marks whatever is above the target because
nothing coarser is there. FOLDER holds photographs or ready-made thumbnails none of which was
trained on; with --split only those are taken that `data=thumbnails data.root=FOLDER` holds out;
`samples` are the package's own. Writes thumbnail_table.csv and thumbnail_table.png.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from lic_train.anchors.base import Anchor
from lic_train.anchors.image import JPEG, JPEG2000, WEBP
from lic_train.anchors.payload import payload_bytes
from lic_train.codec.export import load_codec, read_about
from lic_train.codec.signal import to_uint8
from lic_train.data.datamodule import Signal, Signals
from lic_train.data.sets.thumbnails import Thumbnails
from lic_train.data.sources import ImageFolder, Samples
from lic_train.evaluation.rate_control import Streams
from lic_train.figures.curves import lines_figure
from lic_train.rd import metrics
from lic_train.utils.faults import one_line

TARGETS = (16, 32, 64, 128)  # bytes
BASELINES = (
    # Without `optimize`, Huffman tables are the standard's: a decoder may know them.
    replace(
        JPEG,
        save_settings=lambda q: {"quality": q, "subsampling": "4:2:0"},
        qualities=tuple(range(1, 96)),
    ),
    replace(JPEG2000, qualities=tuple(range(5, 51))),  # dB
    replace(WEBP, qualities=tuple(range(101))),
)


class Coded(NamedTuple):
    """One thumbnail through one codec, or means over thumbnails."""

    payload: float
    file: float
    ssim: float
    psnr: float


@dataclass
class Method:
    """A codec at all its rates, coarse to fine: means over the thumbnails."""

    name: str
    is_run: bool
    points: dict[float, Coded]

    def at(self, target: int) -> tuple[float, bool]:
        """The rate to compare at so many payload bytes, and whether it had to exceed them."""
        fits = [r for r, p in self.points.items() if p.payload <= target]
        if self.is_run:
            return (fits[-1], False) if fits else (next(iter(self.points)), True)
        enough = [r for r, p in self.points.items() if p.payload >= target]
        return (enough[0], not fits) if enough else (fits[-1], False)


def measure(
    name: str,
    is_run: bool,
    rates: Sequence[float],
    signals: Sequence[Signal],
    through: Callable[[Signal, float], tuple[int, int, torch.Tensor]],
) -> Method:
    """Code every thumbnail at every rate; ``through`` gives payload, file bytes and pixels."""
    points = {}
    for rate in rates:
        coded = []
        for signal in signals:
            payload, file, pixels = through(signal, rate)
            if pixels.shape != signal.pixels.shape:  # a layer of another size
                break
            ssim, psnr = metrics.ssim(pixels, signal.pixels), metrics.psnr(pixels, signal.pixels)
            coded.append(Coded(payload, file, ssim, psnr))
        else:
            points[rate] = Coded(*map(statistics.fmean, zip(*coded, strict=True)))
    return Method(name, is_run, points)


def run_method(run: Path, name: str, signals: Sequence[Signal], device: str) -> Method:
    """A trained codec at its whole rates and, where it takes them, quarters between."""
    codec = load_codec(run, device)
    steps = 4 if codec.real_rates else 1
    rates = [i / steps for i in range((codec.num_rates - 1) * steps + 1)]
    streams = {s.name: Streams(codec, s.pixels[None].to(device).float() / 255) for s in signals}

    def through(signal: Signal, rate: float) -> tuple[int, int, torch.Tensor]:
        stream = streams[signal.name].at(rate)
        pixels = to_uint8(codec.decompress(stream)[0]).cpu()
        return sum(map(len, stream.chunks)), len(stream.to_bytes()), pixels

    return measure(name, True, rates, signals, through)


def baseline(anchor: Anchor, signals: Sequence[Signal]) -> Method:
    """A conventional codec at all its qualities."""

    def through(signal: Signal, quality: float) -> tuple[int, int, torch.Tensor]:
        coded = anchor.code(signal.pixels, int(quality))
        return payload_bytes(coded.data), len(coded.data), coded.pixels

    return measure(f"headerless {anchor.name}", False, anchor.qualities, signals, through)


def write_csv(methods: Sequence[Method], images: int, path: Path) -> None:
    """One row per method and target."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["method", "target", "rate", *Coded._fields, "above_target", "images"])
        for method in methods:
            for target in TARGETS:
                rate, above = method.at(target)
                values = [f"{value:.6g}" for value in method.points[rate]]
                rows.writerow([method.name, target, f"{rate:g}", *values, int(above), images])


def as_table(methods: Sequence[Method], title: str) -> Table:
    """SSIM, PSNR and mean bytes of every method, a block per target."""
    table = Table(title=title, title_justify="left")
    table.add_column("method", no_wrap=True)
    for header in ("target B", "payload B", "file B", "SSIM", "PSNR dB", "rate"):
        table.add_column(header, justify="right", no_wrap=True)
    for target in TARGETS:
        table.add_section()
        for method in methods:
            rate, above = method.at(target)
            p = method.points[rate]
            row = (f"{p.payload:.1f}{'*' * above}", f"{p.file:.1f}", f"{p.ssim:.4f}")
            table.add_row(method.name, str(target), *row, f"{p.psnr:.2f}", f"{rate:g}")
    return table


def draw(methods: Sequence[Method], title: str, path: Path) -> None:
    """SSIM and PSNR over mean payload bytes."""
    panels = {
        label: {
            m.name: ([p.payload for p in m.points.values()], [p[i] for p in m.points.values()])
            for m in methods
        }
        for i, label in ((2, "SSIM, mean over thumbnails"), (3, "PSNR (dB), 8-bit RGB, mean"))
    }
    lines_figure(
        panels,
        path,
        xlabel="payload bytes, mean over thumbnails",
        title=title,
        grey=[m.name for m in methods if not m.is_run],
        marks=TARGETS,
        xlim=(0, 1.25 * TARGETS[-1]),
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER|samples")
    parser.add_argument("--split", action="store_true", help="only what data=thumbnails holds out")
    parser.add_argument("--limit", type=int, default=96, help="thumbnails at most")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    with one_line("thumbnail_table"):
        if options.data == Path("samples"):
            photographs = Samples("eval")
        else:
            every = {"split": "eval", "eval_every": 10} if options.split else {}
            photographs = ImageFolder(options.data, **every)
        signals = list(Signals(Thumbnails(photographs, limit=options.limit)))
        names = [str(read_about(run).get("name", "codec")) for run in options.runs]
        methods = [
            run_method(
                run,
                name if names.count(name) == 1 else f"{name} {run.name}",
                signals,
                options.device,
            )
            for run, name in zip(options.runs, names, strict=True)
        ]
        methods += [baseline(anchor, signals) for anchor in BASELINES]
        options.out.mkdir(parents=True, exist_ok=True)
        title = f"{options.data.name}, means over {len(signals)} thumbnails"
        write_csv(methods, len(signals), options.out / "thumbnail_table.csv")
        draw(methods, title, options.out / "thumbnail_table.png")
    Console().print(as_table(methods, title))
    print("* above the target: nothing coarser there")
    print(options.out.resolve())


if __name__ == "__main__":
    main()
