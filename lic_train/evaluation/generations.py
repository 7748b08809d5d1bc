"""Multi-generation coding codes an image, then what was decoded, and so on, to show how it decays.

A round is a file, made by ``compress`` and opened by ``decompress``. Between two rounds the image
is kept as ``float``, the decoder's output in [0, 1] (``decompress`` always clamps it), or as
``8-bit``, as a PNG would store it. PSNR compares the 8-bit image with the original either way.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from lic_train.anchors.image import JPEG
from lic_train.codec import Codec
from lic_train.codec.signal import Signal, to_uint8
from lic_train.errors import LicError, ModelError
from lic_train.evaluation.rate_control import Streams
from lic_train.figures.curves import lines_figure
from lic_train.figures.terminal import print_table
from lic_train.rd import metrics
from lic_train.rd.points import write_csv

STORAGES = ("float", "8-bit")
SHOWN = (1, 2, 5, 10, 20, 50)
Coder = Callable[[Tensor, float], tuple[bytes, Tensor]]
"""Maps ``(1, 3, H, W)`` in [0, 1] and a rate to the file and what it decodes to, same shape."""


@dataclass(frozen=True)
class Generation:
    """One image after a number of rounds. The fields, in this order, are the columns of the CSV."""

    dataset: str
    image: str
    codec: str
    storage: str
    round: int
    """Number of the round; 1 is the first coding of the original."""
    rate: float
    """Rate of this round; for JPEG, its quality."""
    bytes: int
    """Length of this round's file, header included."""
    psnr: float
    """dB, of the 8-bit image against the original."""
    repeats: bool
    """Whether the file equals that of the round before, byte by byte."""


class Step(NamedTuple):
    """The result of one round; see :class:`Generation`.

    Attributes:
        rate: rate of this round, or quality of JPEG.
        bytes: length of the file.
        psnr: dB, of the 8-bit image against the original.
        repeats: whether the file equals that of the round before.
    """

    rate: float
    bytes: int
    psnr: float
    repeats: bool


def chain(coder: Coder, pixels: Tensor, rates: Sequence[float], storage: str) -> Iterator[Step]:
    """Code an image once per rate, each time what the round before decoded.

    Args:
        coder: codes and decodes one image.
        pixels: the original, ``(3, H, W)`` uint8.
        rates: of each round.
        storage: how images are kept between rounds, one of ``STORAGES``.

    Yields:
        The result of each round.

    Raises:
        ModelError: a rate decodes to another size.
    """
    x, previous = pixels[None].float() / 255, b""
    step: Step | None = None
    one_rate = len(set(rates)) == 1
    for rate in rates:
        # The same file decodes to the same image, which makes the same file: nothing more happens.
        if not (step and step.repeats and one_rate):
            data, x = coder(x, rate)
            if x.shape[1:] != pixels.shape:
                raise ModelError(f"rate {rate:g} decodes to another size: take a finer rate")
            eight_bit = to_uint8(x[0]).cpu()
            if storage != "float":
                x = eight_bit[None].float() / 255
            quality = metrics.psnr(eight_bit, pixels)
            step, previous = Step(rate, len(data), quality, data == previous), data
        assert step is not None
        yield step


def of_codec(codec: Codec, device: str = "cpu") -> Coder:
    """Return a codec as a :data:`Coder`.

    Args:
        codec: on ``device``, in eval mode, its tables fixed.
        device: where it codes.
    """

    def coder(x: Tensor, rate: float) -> tuple[bytes, Tensor]:
        stream = codec.compress(x.to(device), rate)
        return stream.to_bytes(), codec.decompress(stream)

    return coder


def jpeg(x: Tensor, quality: float) -> tuple[bytes, Tensor]:
    """Code an image with JPEG, 4:2:0; a :data:`Coder`.

    Args:
        x: ``(1, 3, H, W)`` in [0, 1].
        quality: of JPEG, truncated to an integer.

    Returns:
        The file, and what it decodes to, ``(1, 3, H, W)`` in [0, 1].

    Raises:
        DataError: JPEG cannot code the image.
    """
    coded = JPEG.code(to_uint8(x[0]).cpu(), int(quality))
    return coded.data, coded.pixels[None].float() / 255


def plan(codec: Codec, rounds: int, rate: float | None) -> list[float]:
    """Return the rate of each round.

    Args:
        codec: decides which rates there are.
        rounds: number of rounds, at least 1.
        rate: rate of all rounds, negative counts from the finest; ``None``: begin with the finest
            and choose a random other rate in every round, always with the same seed.

    Raises:
        LicError: ``rounds`` is below 1.
        ModelError: ``rate`` is ``None`` and the codec has only one rate.
    """
    if rounds < 1:
        raise LicError(f"rounds is {rounds}: give at least 1")
    count = codec.num_rates
    if rate is not None:
        return [rate + count if -count <= rate < 0 else rate] * rounds
    if count < 2:
        raise ModelError("this codec has one rate: there is nothing to mix")
    draw, rates = random.Random(0), [count - 1]
    while len(rates) < rounds:
        rates.append(draw.choice([r for r in range(count) if r != rates[-1]]))
    return [float(r) for r in rates]


def jpeg_qualities(
    codec: Codec, signals: Sequence[Signal], rates: Sequence[float], device: str = "cpu"
) -> dict[float, int]:
    """Find the JPEG quality that matches each rate in the total size of the files of all originals.

    Args:
        codec: on ``device``, in eval mode, its tables fixed.
        signals: images with ``(3, H, W)`` uint8 ``pixels``.
        rates: 0 or more; repeated ones are measured once.
        device: where the codec works.

    Returns:
        For each rate, the quality whose files are nearest in size.

    Raises:
        ModelError: as ``Codec.compress``.
        DataError: JPEG cannot code an image.
    """
    sizes = dict.fromkeys(rates, 0)
    jpegs = dict.fromkeys(JPEG.qualities, 0)
    for signal in signals:
        streams = Streams(codec, signal.pixels[None].to(device).float() / 255)
        for rate in sizes:
            sizes[rate] += len(streams.at(rate).to_bytes())
        for quality in jpegs:
            jpegs[quality] += len(JPEG.code(signal.pixels, quality).data)
    return {r: min(jpegs, key=lambda q: abs(jpegs[q] - size)) for r, size in sizes.items()}


def reencode(
    codec: Codec,
    signals: Sequence[Signal],
    *,
    name: str,
    dataset: str,
    rates: Sequence[float],
    storages: Sequence[str] = STORAGES,
    device: str = "cpu",
) -> list[Generation]:
    """Code all signals for all rounds, with the codec in each storage and with JPEG in 8 bits.

    Args:
        codec: on ``device``, in eval mode, its tables fixed.
        signals: images with a ``name`` and ``(3, H, W)`` uint8 ``pixels``.
        name, dataset: what the rows say in ``codec`` and ``dataset``.
        rates: of each round, see :func:`plan`.
        storages: how images are kept between rounds, of ``STORAGES``.
        device: where the codec works.

    Returns:
        One row per coder, storage, image and round, in that order.

    Raises:
        ModelError: as ``Codec.compress``, or a rate decodes to another size.
        DataError: JPEG cannot code an image.
    """
    qualities = jpeg_qualities(codec, signals, rates, device)
    runs: list[tuple[str, Coder, str, list[float]]] = [
        (name, of_codec(codec, device), storage, list(rates)) for storage in storages
    ]
    runs.append(("jpeg", jpeg, "8-bit", [float(qualities[rate]) for rate in rates]))
    return [
        Generation(dataset, signal.name, codec_name, storage, number, *step)
        for codec_name, coder, storage, of_round in runs
        for signal in signals
        for number, step in enumerate(chain(coder, signal.pixels, of_round, storage), 1)
    ]


def report(
    codec: Codec,
    signals: Sequence[Signal],
    out_dir: Path,
    *,
    name: str,
    dataset: str,
    rounds: int = 50,
    rate: float | None = -1,
    storages: Sequence[str] = STORAGES,
    device: str = "cpu",
) -> list[Generation]:
    """Run :func:`reencode`, write its rows and a figure, and print a table.

    Writes ``generations.csv`` and ``figures/generations.png``.

    Args:
        codec, signals, name, dataset, storages, device: see :func:`reencode`.
        out_dir: folder for the results.
        rounds, rate: see :func:`plan`.

    Returns:
        The rows.

    Raises:
        LicError: as :func:`plan` and :func:`reencode`.
    """
    rates = plan(codec, rounds, rate)
    with Console(stderr=True).status(f"coding {escape(dataset)} again and again"):
        rows = reencode(
            codec,
            signals,
            name=name,
            dataset=dataset,
            rates=rates,
            storages=storages,
            device=device,
        )
    write_csv(rows, out_dir / "generations.csv", Generation)
    title = f"{dataset}, means over {len(signals)} image{'s' * (len(signals) != 1)}"
    draw(rows, title, out_dir / "figures" / "generations.png")
    print_table(as_table(rows, title))
    print(out_dir.resolve())
    return rows


def grouped(rows: Sequence[Generation]) -> dict[str, dict[int, list[Generation]]]:
    """Group rows by "codec storage", then by round; each group has one row per image."""
    groups: dict[str, dict[int, list[Generation]]] = {}
    for row in rows:
        label = f"{row.codec} {row.storage}"
        groups.setdefault(label, {}).setdefault(row.round, []).append(row)
    return groups


def as_table(rows: Sequence[Generation], title: str) -> Table:
    """Tabulate PSNR after some rounds, file sizes of the first and last, and when files repeat.

    Args:
        rows: at least one.
        title: of the table.
    """
    last = max(row.round for row in rows)
    shown = sorted({number for number in (*SHOWN, last) if number <= last})
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", caption_justify="left")
    table.add_column("between rounds", no_wrap=True)
    for header in (*(f"dB {n}" for n in shown), "bytes 1", f"bytes {last}", "same bytes"):
        table.add_column(header, justify="right", no_wrap=True)
    for label, rounds in grouped(rows).items():
        values = [f"{statistics.fmean(r.psnr for r in rounds[n]):.2f}" for n in shown]
        sizes = [f"{statistics.fmean(r.bytes for r in rounds[n]):.0f}" for n in (1, last)]
        table.add_row(label, *values, *sizes, _repeats(rounds))
    table.caption = (
        "dB n: PSNR against the original after n rounds. same bytes: how many images reached a "
        "file equal to that of the round before, and the round by which they had"
    )
    return table


def first_repeats(rounds: dict[int, list[Generation]]) -> dict[str, int]:
    """Find the first round whose file equals the one before, for each image that has such a round.

    Args:
        rounds: rows of one group by round, see :func:`grouped`.

    Returns:
        Number of the round by name of the image.
    """
    first: dict[str, int] = {}
    for number, rows in sorted(rounds.items()):
        for row in rows:
            if row.repeats:
                first.setdefault(row.image, number)
    return first


def _repeats(rounds: dict[int, list[Generation]]) -> str:
    first = first_repeats(rounds)
    return f"{len(first)}/{len(rounds[1])}" + (f" by {max(first.values())}" if first else "")


def draw(rows: Sequence[Generation], title: str, path: Path) -> None:
    """Write a PNG of mean PSNR and mean file size over the rounds.

    Args:
        rows: at least one.
        title: over the figure.
        path: of the PNG, written atomically.
    """
    groups = grouped(rows)
    numbers = sorted({row.round for row in rows})

    def means(label: str, column: str) -> list[float]:
        return [statistics.fmean(getattr(r, column) for r in groups[label][n]) for n in numbers]

    panels = {
        "PSNR (dB) against the original, 8-bit RGB, mean": "psnr",
        "bytes of the file, mean": "bytes",
    }
    lines_figure(
        {text: {g: (numbers, means(g, column)) for g in groups} for text, column in panels.items()},
        path,
        xlabel="rounds of encoding and decoding",
        title=title,
        grey=[label for label in groups if label.startswith("jpeg ")],
    )
