"""The operating points of the run so far, in bytes of real files, among anchors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lic_train.anchors.choose import choose
from lic_train.anchors.ladder import anchor_rows, cache_folder
from lic_train.callbacks.look import Findings, Look
from lic_train.codec import Codec
from lic_train.codec.signal import Signal
from lic_train.evaluation.measure import evaluate
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
        anchors: names of conventional codecs on the same images; absent ones are left out.
        dataset, name, lmbda: what the rows say.

    Raises:
        DataError: there is no anchor of a name.
    """

    def __init__(
        self,
        out_dir: str | Path,
        every_n_steps: int,
        images: int,
        anchors: Sequence[str] = ("jpeg",),
        dataset: str = "evaluation",
        name: str = "codec",
        lmbda: float | None = None,
    ) -> None:
        super().__init__(out_dir, every_n_steps, images)
        self.anchors = choose(anchors)
        self.dataset, self.name, self.lmbda = dataset, name, lmbda
        self._anchor_rows: list[RDPoint] = []

    def look(self, codec: Codec, signals: Sequence[Signal], step: int) -> Findings:
        if not self._anchor_rows:
            chosen = [anchor.of_group(codec.random_access) for anchor in self.anchors]
            self._anchor_rows, _ = anchor_rows(chosen, signals, self.dataset, cache=cache_folder())
        lmbda = None if codec.own_lmbda else self.lmbda
        rows = evaluate(codec, signals, dataset=self.dataset, name=self.name, lmbda=lmbda)
        rows += self._anchor_rows
        write_csv(rows, self.path("rd_*.csv", step))
        figure = self.path("rd_*.png", step)
        title = f"{self.dataset}, {len(signals)} images, step {step}"
        rd_curve_figure(rows, figure, title=title)
        return Findings(headline(rows, self.name, "live"), {"live/rd_curve": figure})
