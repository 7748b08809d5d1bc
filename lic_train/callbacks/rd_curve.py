"""The operating points of the run so far, in bytes of real files, among anchors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lic_train.callbacks.look import Findings, Look
from lic_train.codec import Codec
from lic_train.codec.signal import Signal
from lic_train.evaluation.evaluate import Evaluator
from lic_train.evaluation.measure import evaluate
from lic_train.evaluation.results import Labels
from lic_train.figures.curves import rd_curve_figure
from lic_train.rd.headline import headline
from lic_train.rd.points import RDPoint, write_csv


class RDCurve(Look):
    """Codes ``images`` whole evaluation images at every rate of the codec, and decodes them.

    Writes ``rd_<step>.csv`` and ``rd_<step>.png``, and logs ``live/*``: the finest point, what it
    saves against each anchor at equal PSNR, and BD-rate where the codec has rates enough. Decoding
    happens in this process; the finished run is judged by another one.

    Args:
        out_dir, every_n_steps, images: see :class:`Look`. Costs ``images * num_rates`` codings
            and decodings; the anchors cost once, at the first look.
        evaluator: of the run, for its anchors; absent ones are left out.
        dataset, name, lmbda: what the rows say.
    """

    def __init__(
        self,
        out_dir: str | Path,
        every_n_steps: int,
        images: int,
        evaluator: Evaluator,
        dataset: str = "evaluation",
        name: str = "codec",
        lmbda: float | None = None,
    ) -> None:
        super().__init__(out_dir, every_n_steps, images)
        self.evaluator = evaluator
        self.dataset, self.name, self.lmbda = dataset, name, lmbda
        self._anchor_rows: list[RDPoint] = []

    def look(self, codec: Codec, signals: Sequence[Signal], step: int) -> Findings:
        if not self._anchor_rows:
            self._anchor_rows, _ = self.evaluator.anchor_rows(codec, signals, self.dataset)
        labels = Labels(self.dataset, self.name, None if codec.own_lmbda else self.lmbda)
        rows = evaluate(codec, signals, labels).points + self._anchor_rows
        write_csv(rows, self.path("rd_*.csv", step))
        figure = self.path("rd_*.png", step)
        title = f"{self.dataset}, {len(signals)} images, step {step}"
        rd_curve_figure(rows, figure, title=title)
        return Findings(headline(rows, self.name, "live"), {"live/rd_curve": figure})
