"""One CSV of what was logged, whole over all lives of a run: each batch once, in order."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_only
from pytorch_lightning.loggers.logger import Logger

from lic_train.errors import TrainingError
from lic_train.utils.files import written_whole

Row = dict[str, Any]


class CSVLog(Logger):
    """``<save_dir>/<name>/version_0/metrics.csv``: one row per logged batch or validation.

    Lightning's own logger begins a new version in every life and repeats in it what was done since
    the checkpoint. Here a run that resumes from batch n keeps the rows before n and drops the
    others, which it will write again.

    Args:
        save_dir: the run's folder.
        name: folder within it.
    """

    def __init__(self, save_dir: str | Path, name: str = "logs") -> None:
        super().__init__()
        self._folder = Path(save_dir) / name
        self._name = name
        self._columns: list[str] | None = None  # None: the file has not been looked at
        self._last: Row = {}

    @property
    def path(self) -> Path:
        """The file."""
        return self._folder / "version_0" / "metrics.csv"

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> int:
        return 0

    @property
    def save_dir(self) -> str:
        return str(self._folder.parent)

    @property
    def log_dir(self) -> str:
        """Folder of the file, under Lightning's name for it."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run's folder holds its config."""

    @rank_zero_only
    def go_on_from(self, step: int) -> None:
        """Drop the rows of this batch and of later ones; batches count from 0."""
        self._rewrite([row for row in self._read() if int(row["step"]) < step])

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row. Given again, it is not written again."""
        if self._columns is None:
            self._rewrite(self._read())
        row = {k: str(v) for k, v in metrics.items()} | {"step": str(step or 0)}
        if row.keys() == self._last.keys() and row["step"] == self._last["step"]:
            return
        assert self._columns is not None
        if set(row) <= set(self._columns):
            _write(self.path, "a", self._text([row]))
        else:
            self._rewrite([*self._read(), row])
        self._last = row

    def _read(self) -> list[Row]:
        """The rows of the file; of one that a kill cut short, those that are whole."""
        if not self.path.is_file():
            return []
        lines = self.path.read_text().splitlines(keepends=True)
        table = csv.DictReader(line for line in lines if line.endswith("\n"))
        return [{k: v for k, v in row.items() if v} for row in table if row["step"]]

    def _rewrite(self, rows: list[Row]) -> None:
        """The whole file, or the old one."""
        self._columns = sorted({key for row in rows for key in row})
        self._last = rows[-1] if rows else {}
        if rows or self.path.exists():
            with written_whole(self.path) as part:
                _write(part, "w", ",".join(self._columns) + "\n" + self._text(rows))

    def _text(self, rows: list[Row]) -> str:
        assert self._columns is not None
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns, lineterminator="\n").writerows(rows)
        return text.getvalue()


def _write(path: Path, mode: str, text: str) -> None:
    try:
        with path.open(mode, newline="") as file:
            file.write(text)
    except OSError as error:
        raise TrainingError(
            f"{path} cannot be written ({error.strerror}): make room and give the same command "
            "again; it resumes from the last checkpoint"
        ) from None
