"""An exported model is evaluated by its files: tables, figures, and images next to the anchors."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from lic_train.anchors.choose import choose
from lic_train.anchors.image import JPEG
from lic_train.anchors.ladder import anchor_rows, cache_folder, write_record
from lic_train.codec import Codec
from lic_train.codec.export import load_codec
from lic_train.codec.signal import Signal
from lic_train.evaluation import forward_gap
from lic_train.evaluation.decoder_process import DecoderProcess
from lic_train.evaluation.forward_gap import ForwardGap
from lic_train.evaluation.measure import evaluate
from lic_train.evaluation.rate_gap import RateGap, describe
from lic_train.evaluation.results import Evaluation, Labels
from lic_train.figures.curves import rd_curve_figure
from lic_train.figures.terminal import print_table, results_table
from lic_train.rd.perceptual import distances
from lic_train.rd.points import RDPoint, write_csv, write_summary
from lic_train.utils.device import check_device
from lic_train.utils.files import file_label, own_label, write_png
from lic_train.utils.ranks import rank_and_world_size, shared_work

WRITTEN = (
    *("rd_points.csv", "rd_summary.json", "rate_gap.csv", "forward_gap.csv"),
    *("anchors.json", "figures"),
    *("bitstreams", "reconstructions", "originals"),
)
"""What :meth:`Evaluator.evaluate` writes into a folder."""


class Evaluator:
    """How codecs are evaluated.

    Settings that cannot work are refused on construction, before any training.

    Args:
        anchors: names of the conventional codecs to compare with, see ``lic anchors``.
        perceptual: names of perceptual distances, "lpips" or "dists"; each adds a column to the
            rows.
        device: where the exported codec encodes and decodes, "cpu" or "cuda".
        save_images: number of signals, from the first, whose decoded images are kept as PNG.

    Raises:
        ModelError: there is no such device here.
        DataError: there is no such anchor or distance, or the weights of a distance cannot be
            loaded.
    """

    def __init__(
        self,
        anchors: Sequence[str] = (JPEG.name,),
        perceptual: Sequence[str] = (),
        device: str = "cpu",
        save_images: int = 3,
    ) -> None:
        check_device(device)
        self.anchors = choose(anchors)
        self.distances = distances(perceptual)
        self.device = device
        self.save_images = save_images
        self.trust: Sequence[str] = ()
        """Classes outside this package that models may name, ``"package.module:Class"``."""

    def evaluate(
        self,
        model_dir: Path,
        signals: Any,
        labels: Labels,
        out_dir: Path,
        overrides: Sequence[str] = (),
    ) -> Evaluation:
        """Code signals to files, decode the files in another process and write all results.

        Writes ``rd_points.csv``, ``rd_summary.json``, ``rate_gap.csv``, ``forward_gap.csv`` of
        codecs with caveats, ``anchors.json``, ``figures/rd_curve.png``, ``bitstreams/``,
        ``reconstructions/`` and ``originals/``. The ranks of a run share the images; the first one
        measures the anchors and writes the tables.

        Args:
            model_dir: the exported model, see ``lic_train.codec.export``.
            signals: the ``Signals`` of a data module: they have a length and ``names()``.
            labels: what the rows say in ``dataset``, ``codec`` and ``lmbda``.
            out_dir: folder for the results; created if it does not exist.
            overrides: arguments of the model, ``"key=value"``, for the encoder only: a stream tells
                its decoder all it must know.

        Returns:
            The rows of the codec and, on the first rank, of the anchors; and the rate gaps.

        Raises:
            LicError: the model cannot be loaded, a signal cannot be read or coded, a file cannot be
                decoded, or an anchor failed.
        """
        rank, _ = rank_and_world_size()
        console = Console(stderr=True, quiet=rank > 0)
        codec = load_codec(model_dir, self.device, overrides, self.trust)
        with console.status(f"coding {len(signals)} images of {escape(labels.dataset)} to files"):
            coded = self._code(codec, model_dir, signals, labels, out_dir)
        if rank > 0:
            return coded
        for remark in signals.remarks():
            print(f"lic_train: {remark}", file=sys.stderr)
        print(describe(coded.gaps), flush=True)
        for caveat in codec.caveats():
            print(f"note: {caveat}")
        if coded.forwards:
            print(forward_gap.describe(coded.forwards), flush=True)
        with console.status(f"coding them as {', '.join(a.title for a in self.anchors)}"):
            rows, missing = self.anchor_rows(codec, signals, labels.dataset)
        for why in missing.values():
            print(f"lic_train: {why}", file=sys.stderr)
        write_record(self._anchors_of(codec), missing, out_dir / "anchors.json")
        evaluation = Evaluation(coded.points + rows, coded.gaps, coded.forwards)
        _write_tables(evaluation, out_dir)
        _write_originals(islice(signals, self.save_images), out_dir / "originals")
        return evaluation

    def anchor_rows(
        self, codec: Codec, signals: Iterable[Signal], dataset: str
    ) -> tuple[list[RDPoint], dict[str, str]]:
        """Code the same signals with the anchors.

        Args:
            codec: decides how many frames video anchors code between two intra frames.
            signals: with a ``name`` and ``(..., 3, H, W)`` uint8 ``pixels``.
            dataset: what the rows say in ``dataset``.

        Returns:
            The rows, and for each absent anchor the reason, by name.

        Raises:
            DataError: there are no signals.
        """
        return anchor_rows(self._anchors_of(codec), signals, dataset, cache=cache_folder())

    def _anchors_of(self, codec: Codec) -> list[Any]:
        return [anchor.of_group(codec.random_access) for anchor in self.anchors]

    def _code(
        self, codec: Codec, model_dir: Path, signals: Any, labels: Labels, out_dir: Path
    ) -> Evaluation:
        """The rows of all ranks, on every rank; each codes its share of the signals."""
        rank, world_size = rank_and_world_size()

        def code(numbers: range) -> list[tuple[RDPoint, RateGap, ForwardGap | None]]:
            taken: dict[str, str] = {}
            for image in signals.names():  # also those that other ranks write
                own_label(image, taken, labels.dataset)
            with DecoderProcess(model_dir, self.device, trust=self.trust) as decoder:
                own = evaluate(
                    codec,
                    islice(signals, rank, None, world_size),
                    labels,
                    out_dir=out_dir,
                    decoder=decoder,
                    device=self.device,
                    save_images=len(range(rank, self.save_images, world_size)),
                    distances=self.distances,
                )
            forwards: Sequence[ForwardGap | None] = own.forwards or [None] * len(own.points)
            return list(zip(own.points, own.gaps, forwards, strict=True))

        rows = shared_work(len(signals), code)
        measured = [forward for _, _, forward in rows if forward is not None]
        return Evaluation([point for point, _, _ in rows], [gap for _, gap, _ in rows], measured)


def _write_tables(evaluation: Evaluation, out_dir: Path) -> None:
    write_csv(evaluation.points, out_dir / "rd_points.csv")
    write_summary(evaluation.points, out_dir / "rd_summary.json")
    write_csv(evaluation.gaps, out_dir / "rate_gap.csv", RateGap)
    if evaluation.forwards:
        write_csv(evaluation.forwards, out_dir / "forward_gap.csv", ForwardGap)
    figures = out_dir / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    rd_curve_figure(evaluation.points, figures / "rd_curve.png")


def _write_originals(signals: Iterable[Signal], folder: Path) -> None:
    """Images to compare the reconstructions with."""
    for signal in signals:
        for where in np.ndindex(*signal.pixels.shape[:-3]):  # once, (), of a single image
            name = "_".join([file_label(signal.name), *(f"{i:03d}" for i in where)])
            write_png(folder / f"{name}.png", signal.pixels[where])


def conclude(points: Sequence[RDPoint], name: str, run_dir: Path) -> None:
    """Print the last lines of a command: the table, then the folder that holds all results.

    Args:
        points: rows of the codec and of anchors.
        name: what the rows of the codec say in ``codec``.
        run_dir: the folder.
    """
    anchors = [codec for codec in dict.fromkeys(p.codec for p in points) if codec != name]
    print_table(results_table(points, name, anchors))
    print(run_dir)
