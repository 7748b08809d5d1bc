"""Judge an exported model by the files it writes: tables, figures, pictures beside anchors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lic_train.anchors.choose import choose
from lic_train.anchors.image import JPEG
from lic_train.anchors.ladder import anchor_rows, cache_folder, write_record
from lic_train.codec.export import load_codec
from lic_train.evaluation.decoder_process import DecoderProcess
from lic_train.evaluation.measure import evaluate
from lic_train.evaluation.rate_gap import RateGap, describe
from lic_train.figures.curves import rd_curve_figure
from lic_train.figures.terminal import print_table, results_table
from lic_train.rd.perceptual import distances
from lic_train.rd.points import RDPoint, write_csv, write_summary
from lic_train.utils.files import file_label, own_label, write_png
from lic_train.utils.ranks import rank_and_world_size, shared_work


def judge(
    model_dir: Path,
    signals: Any,
    *,
    out_dir: Path,
    dataset: str,
    name: str,
    lmbda: float | None,
    save_images: int = 3,
    device: str = "cpu",
    overrides: Sequence[str] = (),
    anchors: Sequence[str] = (JPEG.name,),
    perceptual: Sequence[str] = (),
) -> list[RDPoint]:
    """Code ``signals`` with an exported model, decode the files in another process, add the
    anchors, and write ``rd_points.csv``, ``rd_summary.json``, ``rate_gap.csv``, ``anchors.json``,
    ``figures/rd_curve.png``, bitstreams and reconstructions into ``out_dir``. ``overrides`` are the
    encoder's alone: a stream tells its decoder all it must know. Ranks of a run share the images
    out, and the first one does the rest."""
    rank, world_size = rank_and_world_size()
    console = Console(stderr=True, quiet=rank > 0)
    measures = distances(perceptual)
    codec = load_codec(model_dir, device, overrides)
    chosen = [anchor.of_group(codec.random_access) for anchor in choose(anchors)]

    def code(numbers: range) -> list[tuple[RDPoint, RateGap]]:
        gaps: list[RateGap] = []
        taken: dict[str, str] = {}
        for image in signals.names():  # also those that other ranks write
            own_label(image, taken, dataset)
        with DecoderProcess(model_dir, device) as decoder:
            points = evaluate(
                codec,
                islice(signals, rank, None, world_size),
                dataset=dataset,
                name=name,
                lmbda=lmbda,
                out_dir=out_dir,
                decoder=decoder,
                device=device,
                save_images=len(range(rank, save_images, world_size)),
                gaps=gaps,
                distances=measures,
            )
        return list(zip(points, gaps, strict=True))

    with console.status(f"coding {len(signals)} images of {dataset} to files"):
        coded = shared_work(len(signals), code)
    points, gaps = [point for point, _ in coded], [gap for _, gap in coded]
    if rank > 0:
        return points
    print(describe(gaps), flush=True)
    with console.status(f"coding them as {', '.join(anchor.title for anchor in chosen)}"):
        rows, missing = anchor_rows(chosen, signals, dataset, cache=cache_folder())
    points += rows
    for why in missing.values():
        print(f"lic_train: {why}", file=sys.stderr)
    write_record(chosen, missing, out_dir / "anchors.json")
    write_csv(points, out_dir / "rd_points.csv")
    write_summary(points, out_dir / "rd_summary.json")
    write_csv(gaps, out_dir / "rate_gap.csv", RateGap)
    figures = out_dir / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    rd_curve_figure(points, figures / "rd_curve.png")
    for picture in islice(signals, save_images):  # to compare the reconstructions with
        for where in np.ndindex(*picture.pixels.shape[:-3]):  # once, (), of a single image
            named = "_".join([file_label(picture.name), *(f"{i:03d}" for i in where)])
            write_png(out_dir / "originals" / f"{named}.png", picture.pixels[where])
    return points


def conclude(points: list[RDPoint], name: str, run_dir: Path) -> None:
    """The last lines a command prints: the table, then where everything is."""
    anchors = [codec for codec in dict.fromkeys(p.codec for p in points) if codec != name]
    print_table(results_table(points, name, anchors))
    print(run_dir)
