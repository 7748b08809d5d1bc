"""The report: recomputable from its CSV files, honest about bad input, and alive in a browser."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lic_train.anchors.base import Anchor
from lic_train.anchors.image import JPEG, JPEG2000, WEBP
from lic_train.cli import _main as cli
from lic_train.data.datamodule import Signals
from lic_train.data.sources import Samples
from lic_train.errors import LicError
from lic_train.evaluation.rate_gap import RateGap
from lic_train.rd import bd
from lic_train.rd import curves as rd
from lic_train.rd.literature import IMAGES
from lic_train.rd.points import RDPoint, read_csv, write_csv
from lic_train.report.gaps import read_gaps
from lic_train.report.runs import find_runs
from lic_train.report.series import collect
from lic_train.report.write import write_report
from lic_train.runs.record import write_evaluation
from lic_train.utils.files import write_png

LMBDAS = (0.001, 0.004, 0.016, 0.064, 0.25)


@cache
def rows_of(anchor: Anchor, qualities: tuple[int, ...], side: int = 256) -> list[RDPoint]:
    from lic_train.rd import metrics

    rows = []
    for signal in Signals(Samples("eval", longest_side=side)):
        height, width = signal.pixels.shape[-2:]
        for quality in qualities:
            coded = anchor.code(signal.pixels, quality)
            size = len(coded.data)
            psnr = metrics.psnr(coded.pixels, signal.pixels)
            ms_ssim = metrics.ms_ssim(coded.pixels, signal.pixels)
            bpp = metrics.bpp(size, width, height)
            seconds = (coded.encode_s, coded.decode_s, "cpu")
            head = ("samples", signal.name, anchor.name, quality, None, width, height, size)
            rows.append(RDPoint(*head, bpp, None, psnr, ms_ssim, *seconds))
    return rows


def write_run(
    folder: Path,
    rows: Sequence[RDPoint],
    lmbda: float,
    name: str = "mine",
    pictures: bool = False,
    **settings: Any,
) -> None:
    """What a training run leaves, its codec a conventional one that says it was trained."""
    mine = [replace(p, codec=name, rate=0, lmbda=lmbda, bpp_estimated=p.bpp * 0.999) for p in rows]
    anchors = rows_of(JPEG, (5, 10, 20, 40, 70, 90))
    write_csv([*mine, *anchors], folder / "rd_points.csv")
    model = {"N": 64} | settings
    config = {"name": name, "lmbda": lmbda, "loss": {"lmbda": lmbda}, "model": model}
    gaps = [
        RateGap("samples", p.image, name, 0, lmbda, p.bytes, 8 * p.bytes - 80, 64, 8, 8, 2, -2)
        for p in mine
    ]
    write_csv(gaps, folder / "rate_gap.csv", RateGap)
    (folder / "config.yaml").write_text(json.dumps(config | {"run_dir": str(folder)}))
    (folder / "model.yaml").write_text(json.dumps({"lic_train": "0.1.0", "about": {"name": name}}))
    if pictures:
        for signal in Signals(Samples("eval", longest_side=256)):
            write_png(folder / "originals" / f"{signal.name}.png", signal.pixels)
            pixels = WEBP.code(signal.pixels, 20).pixels
            write_png(folder / "reconstructions" / f"{signal.name}_r0.png", pixels)


def write_sweep(folder: Path, anchor: Anchor, qualities: Sequence[int], **more: Any) -> None:
    rows = rows_of(anchor, tuple(qualities))
    for lmbda, quality in zip(LMBDAS, qualities, strict=False):
        mine = [p for p in rows if p.rate == quality]
        write_run(folder / f"lmbda={lmbda}", mine, lmbda, **more)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two sweeps, one of which kept pictures."""
    folder = tmp_path_factory.mktemp("report")
    write_sweep(folder / "webp", WEBP, (10, 25, 45, 70, 88), name="wave <b>", pictures=True)
    write_sweep(folder / "j2k", JPEG2000, (26, 29, 32, 35, 38), name="lift")
    cli.main(["report", str(folder / "webp"), str(folder / "j2k"), "--out", f"{folder}/r.html"])
    return folder / "r.html"


def charts(html: str) -> list[dict[str, Any]]:
    found = re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)
    return [json.loads(text) for text in found]


def test_every_figure_can_be_computed_again_from_the_csv_files(report: Path) -> None:
    files = report.with_name("r_files")
    points = read_csv(files / "rd_points.csv")
    (chart,) = charts(report.read_text())
    drawn = {series["label"]: series for series in chart["series"]}
    assert set(drawn) == {"wave <b>", "lift", "jpeg"}
    for label, series in drawn.items():
        curve = rd.mean_curve(points, label)
        for column in ("bpp", "psnr", "ms_ssim_mean_of_db", "encode_s"):
            assert [p[column] for p in series["points"]] == list(getattr(curve, column))
        for image, own in series["images"].items():
            one = rd.mean_curve([p for p in points if p.image == image], label)
            assert [p["psnr"] for p in own] == list(one.psnr)
    with (files / "bd_rate.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {(r["codec"], r["anchor"]) for r in rows} == {
        *(("wave <b>", other) for other in ("jpeg", "lift")),
        *(("lift", other) for other in ("jpeg", "wave <b>")),
    }
    text = report.read_text()
    for row in rows:
        again = bd.compare(points, row["anchor"], row["codec"])
        if again.bd_rate is None:
            assert row["refusal"] == again.refusal and row["bd_rate"] == ""
        else:
            assert float(row["bd_rate"]) == pytest.approx(again.bd_rate, abs=1e-9)
            assert f"{again.bd_rate:+.1f}" in text
            assert again.interval and float(row["low"]) == pytest.approx(again.interval[0])
            assert f"[{again.interval[0]:+.1f}, {again.interval[1]:+.1f}]" in text
    assert any(r["bd_rate"] for r in rows)
    gaps = [g for g in read_gaps(files / "rate_gap.csv") if g.lmbda == 0.004]
    wave = [g for g in gaps if g.codec == "wave <b>"]
    share = 100 * sum(g.header for g in wave) / sum(g.estimated for g in wave)
    assert len(wave) == 3 and f"<td>{share:+.3f}</td>" in text
    assert {p.name for p in files.iterdir()} == {
        "bd_rate.csv",
        "rate_gap.csv",
        "rd_points.csv",
        "rd_curve_samples.png",
        "rd_curve_samples.svg",
    }


def test_the_file_stands_alone_and_is_made_alike_again(report: Path, tmp_path: Path) -> None:
    text = report.read_text()
    assert not re.search(
        r"(src|href)=[\"'](?!data:)|@import|url\((?!#)|https?://(?!www.w3.org)", text
    )
    assert "wave <b>" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert text.count('<img src="data:image/webp') == 3 * (1 + 4)
    folder = report.parent
    write_report([folder / "webp", folder / "j2k"], tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text() == text
    for path in report.with_name("r_files").iterdir():
        assert (tmp_path / "r_files" / path.name).read_bytes() == path.read_bytes()


def test_runs_that_differ_in_more_than_lambda_are_curves_of_their_own(tmp_path: Path) -> None:
    write_sweep(tmp_path / "a", WEBP, (10, 25, 45, 70), gmm_k=2)
    write_sweep(tmp_path / "b", JPEG2000, (26, 29, 32, 35), gmm_k=1)
    series, notes = collect(find_runs([tmp_path]))
    assert [s.label for s in series] == ["mine gmm_k=2", "mine gmm_k=1", "jpeg"]
    assert [len(s.runs) for s in series] == [4, 4, 8] and notes == []
    made = write_report([tmp_path], tmp_path / "r.html", "x")
    text = (tmp_path / "r.html").read_text()
    assert f"hull of {tmp_path.name}" in text and "model.gmm_k" in text and made.runs == 8


def test_published_curves_are_drawn_and_never_compared(tmp_path: Path) -> None:
    write_sweep(tmp_path / "a", WEBP, (10, 25, 45, 70))
    for run in (tmp_path / "a").iterdir():
        rows = read_csv(run / "rd_points.csv")
        write_csv([replace(p, dataset="kodak") for p in rows], run / "rd_points.csv")
    write_report([tmp_path], tmp_path / "r.html", "x")
    (chart,) = charts((tmp_path / "r.html").read_text())
    assert not any("published" in s["label"] for s in chart["series"])  # of other photographs
    for run in (tmp_path / "a").iterdir():
        rows = read_csv(run / "rd_points.csv")
        one = [p for p in rows if p.image == rows[0].image]
        kodak = [
            replace(p, image=name, width=width, height=height)
            for name, (width, height) in IMAGES["kodak"].items()
            for p in one
        ]
        write_csv(kodak, run / "rd_points.csv")
    write_report([tmp_path], tmp_path / "r.html", "x")
    (chart,) = charts((tmp_path / "r.html").read_text())
    published = [s for s in chart["series"] if s["label"].endswith("(published)")]
    assert len(published) > 10 and all(s["hidden"] and not s["trained"] for s in published)
    assert "published" not in (tmp_path / "r_files" / "bd_rate.csv").read_text()


# --- bad input


def error(capsys: pytest.CaptureFixture[str], *arguments: Path | str) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main(["report", *map(str, arguments)])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_nothing_to_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.html"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no rd_points.csv" in error(capsys, empty, "--out", out)
    assert "is no directory" in error(capsys, tmp_path / "none", "--out", out)
    assert "must end in .html" in error(capsys, empty, "--out", tmp_path / "r.pdf")
    write_csv([], empty / "rd_points.csv")
    assert "no points" in error(capsys, empty, "--out", out)
    (empty / "rd_points.csv").write_text("image,bpp\na,1\n")
    assert "not a table of RD points" in error(capsys, empty, "--out", out)
    write_sweep(tmp_path / "a", WEBP, (10, 45))
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert "cannot be written" in error(capsys, tmp_path / "a", "--out", blocked / "r.html")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "empty", "file"]


def test_only_the_common_set_is_compared_and_said(tmp_path: Path) -> None:
    write_sweep(tmp_path / "a", WEBP, (10, 25, 45, 70))
    for run in (tmp_path / "a").iterdir():  # of one image, another size
        rows = read_csv(run / "rd_points.csv")
        odd = [replace(p, width=p.width // 2) if p.image == rows[0].image else p for p in rows]
        write_csv(odd, run / "rd_points.csv")
    write_sweep(tmp_path / "b", JPEG2000, (26, 29, 32, 35), name="lift")
    made = write_report([tmp_path], tmp_path / "r.html", "x")
    text = (tmp_path / "r.html").read_text()
    said = [note for note in made.notes if "only the 2 images common to" in note]
    assert said and "1 left out" in said[0] and "only the 2 images common to" in text
    assert {p.image for p in read_csv(tmp_path / "r_files" / "rd_points.csv")} == {
        p.image for p in rows if p.image != rows[0].image
    }


def test_curves_that_give_no_number_say_why(tmp_path: Path) -> None:
    """Infinite PSNR, no overlap, curves that fall, two runs of the same point."""
    rows = rows_of(WEBP, (10, 25, 45, 70, 88))
    lossless = [replace(p, psnr=math.inf) if p.rate == 88 else p for p in rows]
    for k, quality in enumerate((10, 25, 45, 70, 88)):
        mine = [p for p in lossless if p.rate == quality]
        write_run(tmp_path / "inf" / str(k), mine, LMBDAS[k], name="inf")
        above = [replace(p, psnr=p.psnr + 40) for p in rows if p.rate == quality]
        write_run(tmp_path / "far" / str(k), above, LMBDAS[k], name="far")
        falls = [replace(p, psnr=60 - p.psnr) for p in rows if p.rate == quality]
        write_run(tmp_path / "falls" / str(k), falls, LMBDAS[k], name="falls")
    again = [replace(p, bytes=p.bytes + 8) for p in rows if p.rate == 10]
    write_run(tmp_path / "inf" / "again", again, LMBDAS[0], name="inf")
    made = write_report([tmp_path], tmp_path / "r.html", "x")
    said = "\n".join(made.notes)
    assert "1 rates of inf left out: an image is lossless there" in said
    assert "3 rows of" in said and "are of the same points but differ" in said
    text = (tmp_path / "r.html").read_text()
    assert "does not rise with rate" in text and "covers 0% of the PSNR range of far" in text
    table = {
        (row["codec"], row["anchor"]): row
        for row in csv.DictReader((tmp_path / "r_files" / "bd_rate.csv").open())
    }
    assert table["far", "jpeg"]["bd_rate"] == "" and "covers 0%" in table["far", "jpeg"]["refusal"]
    assert float(table["inf", "jpeg"]["bd_rate"]) < 0
    assert all(math.isfinite(p["psnr"]) for s in charts(text)[0]["series"] for p in s["points"])


def test_no_image_in_common(tmp_path: Path) -> None:
    write_sweep(tmp_path / "a", WEBP, (10, 45))
    rows = [replace(p, image=f"other {p.image}") for p in rows_of(WEBP, (10,))]
    write_run(tmp_path / "b", rows, 0.5, name="elsewhere")
    with pytest.raises(LicError, match="no image is common to mine and elsewhere"):
        write_report([tmp_path], tmp_path / "r.html", "x")
    assert not (tmp_path / "r.html").exists() and not (tmp_path / "r_files").exists()


# --- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, wherever it lies; without one these tests are skipped, aloud."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    with api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no Chromium here: {str(error).splitlines()[0]}")
        yield started
        started.close()


def test_the_chart_can_be_read_hovered_and_switched(
    report: Path, browser: Any, tmp_path: Path
) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.append(message.text))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or
            faults.append(request.url))  # fmt: skip
    page.goto(report.as_uri())
    (chart,) = charts(report.read_text())
    lift = next(s for s in chart["series"] if s["label"] == "lift")
    lines = page.locator("svg.plot path[data-series]")
    assert lines.count() == 3
    # Hovering a point shows its numbers.
    page.locator("svg.plot circle").last.hover()
    assert re.search(r"\d\.\d{4} bpp\s*\d\d\.\d{3} dB PSNR", page.locator(".tip").inner_text())
    page.mouse.move(2, 2)
    assert not page.locator(".tip").is_visible()
    # A click in the legend hides a curve, a double click leaves it alone, another brings all back.
    page.locator(".legend button", has_text="jpeg").click()
    assert lines.count() == 2
    page.locator(".legend button", has_text="jpeg").click()
    page.locator(".legend button", has_text="lift").dblclick()
    assert lines.count() == 1 and lines.get_attribute("data-series") == "lift"
    circles = page.locator("svg.plot circle")
    assert circles.count() == len(lift["points"])
    # One image, another metric, another axis: the curve is drawn anew.
    before = lines.get_attribute("d")
    page.select_option("select[name=image]", index=1)
    of_image = lines.get_attribute("d")
    page.check("input[name=log]")
    assert len({before, of_image, lines.get_attribute("d")}) == 3
    page.select_option("select[name=metric]", "ms_ssim_mean_of_db")
    page.select_option("select[name=image]", "")
    assert "MS-SSIM" in (page.locator("svg.plot").text_content() or "")
    page.locator(".legend button", has_text="lift").dblclick()
    assert lines.count() == 3
    # Pictures are there, and the page is no wider than the window.
    sizes = page.eval_on_selector_all("img", "all => all.map(i => i.naturalWidth)")
    assert len(sizes) == 15 and min(sizes) > 100
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert page.locator("details").count() == 0  # nothing is published of these images
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert Image.open(tmp_path / "page.png").width == 1280
    assert faults == []


def test_an_evaluation_never_differs_from_the_run_it_is_of(tmp_path: Path) -> None:
    rows = rows_of(WEBP, (10, 45))
    run, other, out = (tmp_path / name for name in ("run", "other", "out"))
    write_run(run, [p for p in rows if p.rate == 10], 0.01, seed=1)
    write_run(other, [p for p in rows if p.rate == 45], 0.01, seed=2)
    kodak = [replace(p, dataset="kodak") for p in read_csv(run / "rd_points.csv")]
    write_csv(kodak, out / "rd_points.csv")
    write_evaluation(out, run, [])
    series, notes = collect(find_runs([tmp_path]))
    assert {s.label for s in series} == {"mine seed=1", "mine seed=2", "jpeg"}
    (one,) = [s for s in series if s.label == "mine seed=1"]
    assert {run.path.name for run in one.runs} == {"run", "out"} and notes == []
    assert {p.dataset for p in one.points} == {"samples", "kodak"}
    # Of another setting of the same weights, it is another curve.
    write_evaluation(out, run, ["scales=[0.5,1.0]"])
    assert len(collect(find_runs([tmp_path]))[0]) == 4


def test_a_page_is_titled_by_its_codecs_and_says_why_there_is_no_number(tmp_path: Path) -> None:
    write_sweep(tmp_path / "a", WEBP, (10, 25))
    for run in (tmp_path / "a").iterdir():
        log = "step,train/bpp_estimated,train/distortion\n"
        log += "".join(f"{i},{1 / (i + 1)},{99 / (i + 1)}\n" for i in range(900))
        (run / "logs" / "version_0").mkdir(parents=True)
        (run / "logs" / "version_0" / "metrics.csv").write_text(log + "900,nan,inf\nx")
        about = {"name": "mine", "parameters": 1234567, "kmacs_per_pixel": 45.6}
        (run / "model.yaml").write_text(json.dumps({"lic_train": "0.1.0", "about": about}))
    write_report([tmp_path / "a"], tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert "<h1>mine beside JPEG</h1>" in text
    assert re.search(r'<span class="refused">–<small>[^<]*at least 4', text)
    assert "<td>1.23</td><td>45.6</td>" in text
    lines = re.findall(r'<polyline points="([^"]*)"', text)
    assert len(lines) == 4 and all(50 < len(line.split()) <= 160 for line in lines)
    assert not re.search("nan|inf", " ".join(lines))
    assert "mine λ=0.001<" in text and "mine λ=0.004<" in text
