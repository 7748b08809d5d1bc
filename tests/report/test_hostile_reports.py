"""A report of a stranger's runs is made, or refused in one line; nothing runs or blocks."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from helpers.side_files import ROWS, cell, report_inputs, write_plain_run

from lic_train.cli import _main as cli
from lic_train.rd.points import read_csv
from lic_train.report.write import write_report
from lic_train.utils.faults import describe

INPUTS = report_inputs()
MADE = (
    *("about is list", "anchors are text", "an anchor is list", "weights_mb is text"),
    *("the codec is mathtext", "the codec is markup", "the codec is escapes"),
    *("dataset mathtext everywhere", "device markup everywhere"),
)
REFUSED = {
    **dict.fromkeys(("anchors.json is a fifo", "model.yaml is a device"), "no plain file"),
    **dict.fromkeys((f"{ROWS} is a fifo", "rate_gap.csv is a device"), "no plain file"),
    "rd_points.csv is a loop": "holds no rd_points.csv",
    "anchors.json is deep": "not JSON",
    "cyclic YAML": "aliases",
    **{f"bpp {number}": "bpp is" for number in ("inf", "0", "-1", "1e308", "nan")},
    "bytes 100000": "bytes is",
    "psnr 1e308": "psnr is",
    "dataset NUL": "dataset is no name",
    "image field": "field limit",
    "gap estimated ": "rate gaps",
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    write_plain_run(folder / "run")
    return folder


def outcome(name: str, plain: Path, scratch: Path) -> str:
    """The one line of the refusal; empty where a report was made.

    Raises:
        Exception: whatever is a bug, a wait of 60 s included.
    """

    def late(*_: Any) -> None:
        raise AssertionError(f"{name}: still reading after 60 s")

    shutil.copytree(plain, scratch / "runs")
    INPUTS[name](scratch / "runs" / "run")
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    try:
        write_report([scratch / "runs"], scratch / "r.html", "title")
    except Exception as error:
        line = describe(error)
        if line is None:
            raise
        return line
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert "<script>alert" not in (scratch / "r.html").read_text()
    return ""


@pytest.mark.parametrize("name", MADE)
def test_what_is_odd_is_left_out_or_shown_as_it_is(name: str, plain: Path, tmp_path: Path) -> None:
    assert outcome(name, plain, tmp_path) == ""


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_or_text_is_one_line(name: str, plain: Path, tmp_path: Path) -> None:
    line = outcome(name, plain, tmp_path)
    assert REFUSED[name] in line and "\n" not in line
    assert not (tmp_path / "r.html").exists()


def test_the_command_prints_the_line(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(plain, tmp_path / "runs")
    cell("psnr", "nan")(tmp_path / "runs" / "run")
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", str(tmp_path / "runs"), "--out", str(tmp_path / "r.html")])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.count("\n") == 1 and "psnr is nan" in said


def test_what_is_measured_is_read(plain: Path) -> None:
    """The ranges refuse no row of a plain run."""
    assert len(read_csv(plain / "run" / ROWS)) == 16


@pytest.mark.slow
@pytest.mark.parametrize("name", INPUTS)
def test_every_side_file_of_a_report(name: str, plain: Path, tmp_path: Path) -> None:
    outcome(name, plain, tmp_path)
