"""``lic evaluate``: a sweep as one curve, published curves, classes of the current folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.zoo import Zoo
from PIL import Image

from lic_train.cli import _main as cli
from lic_train.codec.export import CONFIG, ready_copy, save_codec
from lic_train.rd.points import read_csv
from lic_train.report.runs import find_runs
from lic_train.report.series import collect
from lic_train.runs.listing import rows
from lic_train.runs.record import write_about

OURS = "lic_train.modules.codecs.mean_scale.MeanScale"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    return folder


def finished(folder: Path, zoo: Zoo, lmbda: float) -> Path:
    """What a run leaves, as far as it is evaluated."""
    codec = ready_copy(zoo.build("mean_scale", seed=int(1000 * lmbda)))
    save_codec(folder, codec, zoo.config("mean_scale"), name="mean_scale", lmbda=lmbda)
    text = (folder / CONFIG).read_text()
    assert OURS in text
    (folder / CONFIG).write_text(text.replace(OURS, "my_codec_of_here.Mine"))
    (folder / "run.json").write_text(json.dumps({"name": "mean_scale", "lmbda": lmbda}))
    (folder / "config.yaml").write_text(f"name: mean_scale\nlmbda: {lmbda}\nseed: 1\n")
    (folder / "rd_summary.json").write_text("{}")
    write_about(folder, f"mean_scale λ={lmbda}", "mean_scale", [])
    return folder


def test_a_sweep_is_evaluated_into_one_curve(
    zoo: Zoo,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a class that lies in the current folder, once the user trusts it."""
    (tmp_path / "my_codec_of_here.py").write_text(
        f"from {OURS.rpartition('.')[0]} import MeanScale\n\n\nclass Mine(MeanScale):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    sweep, out = tmp_path / "multirun" / "abc", tmp_path / "out"
    labels = ["lmbda=0.01", "lmbda=0.02"]
    for label in labels:
        point = finished(sweep / label, zoo, float(label.partition("=")[2]))
        (point / "point.json").write_text(json.dumps({"label": label}))
    (sweep / "sweep.json").write_text(json.dumps({"points": [*labels, "lmbda=0.03"]}))
    line = ["evaluate", str(sweep), "--data", str(photos), "--out", str(out)]
    with pytest.raises(SystemExit):
        cli.main(line)
    assert "--trust my_codec_of_here:Mine" in capsys.readouterr().err
    cli.main([*line, "--longest-side", "40", "--trust", "my_codec_of_here:Mine"])
    said = capsys.readouterr().out
    assert "mean_scale λ=0.01" in said and "mean_scale λ=0.02" in said
    points = read_csv(out / "rd_points.csv")
    own = [p for p in points if p.codec == "mean_scale"]
    assert sorted(p.lmbda or 0 for p in own) == [0.01, 0.02]
    assert {(p.width, p.height, p.dataset) for p in points} == {(40, 12, "photos")}
    assert (out / "figures" / "rd_curve.png").is_file()
    # One curve in a report, and no more rows than there are.
    series, notes = collect(find_runs([out]))
    assert [s.label for s in series] == ["mean_scale", "jpeg"] and notes == []
    assert [row.name for row in rows([out])] == [
        *("evaluation of sweep multirun/abc", "mean_scale λ=0.01 on photos"),
        "mean_scale λ=0.02 on photos",
    ]


def test_published_curves_of_other_images_are_refused_at_once(
    zoo: Zoo, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = finished(tmp_path / "run", zoo, 0.01), tmp_path / "out"
    kodak = photos.rename(tmp_path / "kodak")
    line = ["evaluate", str(run), "--data", str(kodak), "--out", str(out)]
    with pytest.raises(SystemExit):
        cli.main([*line, "--compare", "published:vtm"])
    said = capsys.readouterr().err
    assert "nothing published compares with these images" in said and not out.exists()
