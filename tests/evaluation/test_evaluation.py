"""Every number of a report is of a real file that another process can decode."""

from __future__ import annotations

import io
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.pool_codec import BITS, Pool, Signal, point, ready, run
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from lic_train.anchors import image as anchors
from lic_train.anchors.ladder import anchor_rows
from lic_train.codec import Codec
from lic_train.codec.bitstream import Bitstream
from lic_train.codec.contract import Shape
from lic_train.codec.signal import to_uint8
from lic_train.errors import BitstreamError, DataError, LicError, ModelError
from lic_train.evaluation import decoder_process
from lic_train.evaluation import measure as evaluation
from lic_train.evaluation.decoder_process import DecoderProcess
from lic_train.evaluation.measure import local_decoder
from lic_train.figures import curves as figures
from lic_train.figures import terminal as table
from lic_train.rd import curves as rd
from lic_train.rd import metrics
from lic_train.rd import points as rd_points
from lic_train.rd.points import RDPoint


@pytest.fixture
def signals() -> list[Signal]:
    generator = torch.Generator().manual_seed(0)
    sizes = {"a": (13, 17), "b": (24, 31)}
    return [
        Signal(name, torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8))
        for name, size in sizes.items()
    ]


class Layers(Pool):
    """Its coarse rate is an image of half the size."""

    def reference(self, x: Tensor, rate: int = -1) -> Tensor:
        return avg_pool2d(x, 2) if rate % 2 == 0 else x

    def encode(self, x: Tensor, rate: float) -> list[bytes]:
        return [self.pack(self.reference(x, rate).mul(255).round())]

    def decode(self, chunks: list[bytes], shape: Shape, rate: int) -> Tensor:
        height, width = (s // 2 if rate == 0 else s for s in shape[-2:])
        return super().decode(chunks, (*shape[:2], height, width), 1)

    def estimate(self, x: Tensor, rate: int = -1) -> float:
        return 300.0


def load(model_dir: Path, device: str) -> Codec:
    """What ``lic_train.codec.export.load_codec`` is to a real model; prints, as libraries do."""
    print("loading ...")
    if not (model_dir / "offset").exists():
        raise ModelError(f"no model in {model_dir}")
    return ready(Pool(float((model_dir / "offset").read_text())))


# --- evaluate ----------------------------------------------------------------------------------
def test_bytes_are_the_files_header_included(signals: list[Signal], tmp_path: Path) -> None:
    codec = Pool()
    points = run(codec, signals, out_dir=tmp_path)
    assert [(p.image, p.rate) for p in points] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    for p in points:
        path = tmp_path / "bitstreams" / f"{p.image}_r{p.rate}.lic"
        assert p.bytes == path.stat().st_size
        assert p.bytes > sum(map(len, Bitstream.from_bytes(path.read_bytes()).chunks))
        # Padding to blocks of 4 is no pixel of the image.
        assert (p.width, p.height) == ((17, 13) if p.image == "a" else (31, 24))
        assert p.bpp == 8 * p.bytes / (p.width * p.height)
    # 8 bits of noise cannot be packed: a size in bits, or without the header, would be less.
    assert all(p.bpp > 24 for p in points if p.rate == 1)
    assert len(list((tmp_path / "bitstreams").iterdir())) == 4


def test_size_is_read_from_disk_after_writing(signals: list[Signal], tmp_path: Path) -> None:
    decode = local_decoder(ready(Pool()))

    def decoder(path: Path) -> tuple[Tensor, float]:
        result = decode(path)
        with path.open("ab") as file:
            file.write(b"1234567")
        return result

    plain, longer = run(Pool(), signals), run(Pool(), signals, decoder=decoder)
    assert [q.bytes - p.bytes for p, q in zip(plain, longer, strict=True)] == [7] * 4


def test_pixels_come_from_the_decoder_and_the_file(signals: list[Signal], tmp_path: Path) -> None:
    files: list[Path] = []

    def black(path: Path) -> tuple[Tensor, float]:
        files.append(path)
        shape = Bitstream.from_bytes(path.read_bytes()).shape
        return torch.zeros(shape[1:], dtype=torch.uint8), 7.5

    points = run(Pool(), signals, decoder=black)
    for p in points:
        pixels = next(s.pixels for s in signals if s.name == p.image)
        assert p.psnr == metrics.psnr(torch.zeros_like(pixels), pixels)
        assert p.decode_s == 7.5
    assert len(files) == 1 + 4  # the first one warms up


def test_psnr_is_of_the_8_bit_image(signals: list[Signal]) -> None:
    points = run(Pool(offset=0.3 / 255), signals)
    assert all(p.psnr == math.inf for p in points if p.rate == 1)  # on floats: 58.6 dB
    assert all(5 < p.psnr < 30 for p in points if p.rate == 0)


def test_a_layer_is_measured_against_its_own_reference(signals: list[Signal]) -> None:
    coarse, fine = run(Layers(), [signals[0]._replace(pixels=signals[1].pixels[..., :20, :30])])
    assert (coarse.width, coarse.height) == (15, 10) and (fine.width, fine.height) == (30, 20)
    assert coarse.psnr == math.inf
    assert coarse.bpp == 8 * coarse.bytes / 150
    assert (coarse.bpp_estimated, fine.bpp_estimated) == (2.0, 0.5)


def test_estimated_is_not_measured(signals: list[Signal]) -> None:
    coarse, fine = run(Pool(), signals[:1])
    # rate 0 has 4 x 5 blocks, rate 1 adds every pixel
    assert coarse.bpp_estimated == pytest.approx(3 * BITS * 20 / (17 * 13))
    assert fine.bpp_estimated == pytest.approx(3 * BITS * (20 / (17 * 13) + 1))
    assert fine.bpp > 24


def test_reconstructions_are_the_decoded_pixels(signals: list[Signal], tmp_path: Path) -> None:
    run(Pool(), signals, out_dir=tmp_path, save_images=1)
    saved = sorted(p.name for p in (tmp_path / "reconstructions").iterdir())
    assert saved == ["a_r0.png", "a_r1.png"]
    image = np.asarray(Image.open(tmp_path / "reconstructions" / "a_r1.png"))
    assert torch.equal(torch.from_numpy(image.copy()).permute(2, 0, 1), signals[0].pixels)


def test_names_in_folders_and_names_that_clash(signals: list[Signal], tmp_path: Path) -> None:
    run(Pool(), [signals[0]._replace(name="sub/a")], out_dir=tmp_path)
    assert (tmp_path / "bitstreams" / "sub_a_r0.lic").exists()
    with pytest.raises(DataError, match="two images"):
        run(Pool(), [signals[0], signals[0]])
    with pytest.raises(DataError, match="sub/a and sub_a, would both be sub_a_r0"):
        run(Pool(), [signals[0]._replace(name=name) for name in ("sub/a", "sub_a")])
    with pytest.raises(DataError, match="no images"):
        run(Pool(), [])


# --- timing ------------------------------------------------------------------------------------
def test_the_clock_waits_for_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: calls.append(f"sync {device}"))

    def read() -> float:
        calls.append("read")
        return 1.0

    monkeypatch.setattr(time, "perf_counter", read)
    assert evaluation.clock("cuda:1") == 1.0
    assert calls == ["sync cuda:1", "read"]
    evaluation.clock("cpu")
    assert calls == ["sync cuda:1", "read", "read"]


def test_all_timings_are_of_that_clock_and_warmed_up(
    signals: list[Signal], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    class Watched(Pool):
        def encode(self, x: Tensor, rate: float) -> list[bytes]:
            events.append("encode")
            return super().encode(x, rate)

        def decode(self, chunks: list[bytes], shape: Shape, rate: int) -> Tensor:
            events.append("decode")
            return super().decode(chunks, shape, rate)

        def estimate(self, x: Tensor, rate: int = -1) -> float:
            return 0.0

    def clock(device: str) -> float:
        events.append("clock")
        return float(events.count("clock"))

    monkeypatch.setattr(evaluation, "clock", clock)
    points = run(Watched(), signals)
    warm_up = ["encode", "clock", "decode", "clock"]
    assert events[:4] == warm_up  # a time was taken in it, and thrown away
    assert events[4:] == ["clock", "encode", "clock", "clock", "decode", "clock"] * 4
    assert all(p.encode_s == 1 and p.decode_s == 1 for p in points)


# --- tables of rows ----------------------------------------------------------------------------


def test_csv_loses_nothing_and_has_the_columns_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rd.csv"
    points = [
        point(lmbda=0.0018, bpp=1 / 3, bpp_estimated=0.1 + 0.2, ms_ssim=0.987654321, psnr=math.inf),
        point('über, "b"\nc'),
    ]
    rd_points.write_csv(points, path)
    header, first = path.read_text().splitlines()[:2]
    assert header == (
        "dataset,image,codec,rate,lmbda,width,height,bytes,bpp,bpp_estimated,psnr,ms_ssim,"
        "encode_s,decode_s,device,lpips,dists"
    )
    assert first.split(",")[8:11] == ["0.3333333333333333", "0.30000000000000004", "inf"]
    back = rd_points.read_csv(path)
    assert back[0] == points[0]
    assert math.isnan(back[1].ms_ssim)
    assert replace(back[1], ms_ssim=0) == replace(points[1], ms_ssim=0)
    assert path.read_text().splitlines()[-1] == 'c",pool,0,,16,8,32,2.0,,30.1,,0.1,0.2,cpu,,'


def test_a_table_with_a_byte_order_mark_and_names_that_are_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "rd.csv"
    rd_points.write_csv([point("caf\udce9")], path)
    assert rd_points.read_csv(path)[0].image == "caf\\udce9"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert rd_points.read_csv(path)[0].image == "caf\\udce9"


def test_csv_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rd.csv"
    rd_points.write_csv([point()], path)
    before = path.read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        rd_points.write_csv([point(), point("b")], path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "dataset,image\nset,a\n", "not a table"])
def test_csv_of_something_else_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "rd.csv"
    with pytest.raises(DataError, match="cannot read"):
        rd_points.read_csv(path)
    path.write_text(text)
    with pytest.raises(DataError, match="not a table of RD points"):
        rd_points.read_csv(path)


def test_summary_names_both_means_of_ms_ssim(tmp_path: Path) -> None:
    points = [point("a", psnr=20.0, ms_ssim=0.9), point("b", psnr=40.0, ms_ssim=0.99)]
    points += [point("c", psnr=30.0), point("a", "lossless", psnr=math.inf)]
    rd_points.write_summary(points, tmp_path / "rd_summary.json")
    loaded = json.loads((tmp_path / "rd_summary.json").read_text(), parse_constant=pytest.fail)
    pool, lossless = loaded["points"]
    assert pool["psnr"] == pytest.approx(30)  # of the mean of MSEs it would be 24.7
    assert pool["ms_ssim_mean_of_db"] == pytest.approx(15)
    assert pool["ms_ssim_db_of_mean"] == pytest.approx(-10 * math.log10(1 - 0.945))
    assert (pool["images"], pool["images_with_ms_ssim"]) == (3, 2)
    assert pool["bpp_estimated"] is None
    assert lossless["psnr"] is None and lossless["ms_ssim"] is None


# --- the other process -------------------------------------------------------------------------
@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "offset").write_text("0.001")
    return tmp_path


@pytest.fixture
def command(tmp_path: Path) -> tuple[str, str]:
    """Starts the real child, with this file's codec instead of an exported one."""
    script = tmp_path / "child.py"
    script.write_text(
        f"import sys; sys.path[:0] = {[str(p) for p in Path(__file__).parents[:2]]!r}\n"
        "import test_evaluation, lic_train.evaluation.decoder_process as d\n"
        "d.serve(test_evaluation.load)\n"
    )
    return sys.executable, str(script)


def test_another_process_decodes_the_same_pixels_and_refuses_alike(
    signals: list[Signal], model: Path, command: tuple[str, str]
) -> None:
    codec = ready(Pool(0.001))
    out = model / "out"
    with DecoderProcess(model, environment={"OMP_NUM_THREADS": "3"}, command=command) as decoder:
        there = run(codec, signals, out_dir=out, decoder=decoder)
        here = run(codec, signals)

        def untimed(points: list[RDPoint]) -> list[RDPoint]:
            return [replace(p, encode_s=0.0, decode_s=0.0, ms_ssim=0.0) for p in points]

        assert untimed(there) == untimed(here)
        assert all(0 < p.decode_s < 60 for p in there)
        # A refusal is the decoder's own, and the process decodes on.
        good, bad = out / "bitstreams" / "a_r1.lic", out / "bad.lic"
        bad.write_bytes(good.read_bytes()[:-3])
        with pytest.raises(BitstreamError, match="cut short or altered"):
            decoder(bad)
        other = ready(Pool(0.5)).compress(signals[0].pixels[None] / 255)
        bad.write_bytes(other.to_bytes())
        with pytest.raises(BitstreamError, match="made by other weights"):
            decoder(bad)
        with pytest.raises(DataError, match="cannot read"):
            decoder(out / "missing.lic")
        pixels, _ = decoder(good)
        assert torch.equal(pixels, local_decoder(codec)(good)[0])
        # A child that dies is an error, at once and ever after, never a wait.
        assert decoder._process is not None
        decoder._process.kill()
        for _ in range(2):
            with pytest.raises(LicError, match="ended"):
                decoder(good)
    with pytest.raises(LicError, match="not running"):
        decoder(good)


def test_a_model_that_cannot_be_loaded_says_so(model: Path, command: tuple[str, str]) -> None:
    (model / "offset").unlink()
    with pytest.raises(ModelError, match="no model in"), DecoderProcess(model, command=command):
        pytest.fail("entered")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("raise SystemError('out of luck')", "out of luck"),
        ("import time; time.sleep(60)", "no answer in time"),
        ("print('chatter', flush=True)", "ended"),
    ],
)
def test_a_child_that_fails_or_hangs_is_reported(code: str, message: str, tmp_path: Path) -> None:
    start = time.monotonic()
    process = DecoderProcess(tmp_path, timeout_s=2, command=(sys.executable, "-c", code))
    with pytest.raises(LicError, match=message), process:
        pytest.fail("entered")
    assert time.monotonic() - start < 30


def test_the_child_ends_when_the_parent_does(model: Path, command: tuple[str, str]) -> None:
    arguments = DecoderProcess(model, command=command)
    child = subprocess.Popen(
        arguments.arguments,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=arguments.environment,
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        # The model's chatter went elsewhere: the first line is the protocol's.
        assert json.loads(child.stdout.readline()) == {"bytes": 0}
        child.stdin.close()
        assert child.wait(timeout=30) == 0
    finally:
        child.kill()
        child.stdout.close()


def test_the_default_child_is_this_module() -> None:
    python, *command = decoder_process.COMMAND
    assert python == sys.executable
    assert command == ["-P", "-m", "lic_train.evaluation.decoder_process"]


@pytest.fixture(scope="module")
def photo() -> Signal:
    """A smooth image with edges: JPEG of noise would say little."""
    y, x = torch.meshgrid(torch.linspace(0, 9, 176), torch.linspace(0, 12, 200), indexing="ij")
    waves = torch.stack([torch.sin(x + y), torch.cos(x * y / 4), torch.sin(3 * x).sign() * 0.6])
    return Signal("photo", to_uint8(waves / 2 + 0.5))


# --- figures and tables ------------------------------------------------------------------------
@pytest.fixture(scope="module")
def measured(photo: Signal) -> list[RDPoint]:
    webp = replace(anchors.WEBP, qualities=(20, 60))
    rows, missing = anchor_rows([anchors.JPEG, webp], [photo], "set")
    assert missing == {}
    own = [p for p in rows if p.codec == "webp"]
    renamed = [replace(p, codec="mine", rate=i) for i, p in enumerate(own)]
    return [p for p in rows if p.codec == "jpeg"] + renamed


def text_of(points: list[RDPoint], **options: str) -> str:
    file = io.StringIO()
    table.print_table(table.results_table(points, "mine", **options), file)
    return file.getvalue()


def test_table_shows_the_measured_rate_beside_jpegs(measured: list[RDPoint]) -> None:
    text = text_of(measured)
    mine = [p for p in measured if p.codec == "mine"]
    quality = rd.nearest(measured, mine[0].bpp)
    row, jpeg = text.splitlines()[4:6]
    assert row.split()[3:6] == [
        f"{mine[0].bpp:.3f}",
        f"{mine[0].psnr:.2f}",
        f"{mine[0].ms_ssim:.4f}",
    ]
    assert jpeg.split()[:3] == ["JPEG", "quality", str(quality)]
    assert "at equal PSNR" in text and "1/1" in text
    assert "\x1b" not in text and max(map(len, text.splitlines())) <= table.PLAIN_WIDTH


def test_a_table_of_sixteen_rates_ends_in_its_bd_rate(measured: list[RDPoint]) -> None:
    """JPEG's own rows at 20 % fewer bits: BD-rate -20 %, in three lines and not in seventeen."""
    jpegs = [p for p in measured if p.codec == "jpeg"]
    own = [replace(p, codec="mine", rate=i, bpp=0.8 * p.bpp) for i, p in enumerate(jpegs[3:19])]
    text = text_of(jpegs + own)
    assert len(own) == 16 and all(f"mine rate {i} " in text for i in range(16))
    caption = " ".join(text[text.rindex("JPEG quality") :].split())
    assert caption.count("mine rate") == 2
    assert "mine rate 0: 20.0 % fewer bits" in caption
    assert "mine rate 15: 20.0 % fewer bits" in caption
    assert caption.endswith("mine: BD-rate -20.0 % against JPEG, mean curves, PSNR")
    assert max(map(len, text.splitlines())) <= table.PLAIN_WIDTH
    beyond = [replace(p, psnr=p.psnr + 30) for p in own]
    assert "no BD-rate: jpeg covers" in text_of(jpegs + beyond)
    assert "BD-rate" not in text_of(measured)  # of two points


def test_estimated_rates_are_shown_nowhere(measured: list[RDPoint], tmp_path: Path) -> None:
    lies = [replace(p, bpp_estimated=0.001) for p in measured]
    assert text_of(lies) == text_of(measured)
    figures.rd_curve_figure(measured, tmp_path / "a.png")
    figures.rd_curve_figure(lies, tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_table_without_an_anchor_or_ms_ssim(measured: list[RDPoint]) -> None:
    alone = [replace(p, ms_ssim=math.nan) for p in measured if p.codec == "mine"]
    text = text_of(alone)
    assert "JPEG" not in text and " - " in text and "nan" not in text


def test_figures_are_written_whole_and_leave_nothing_behind(
    measured: list[RDPoint], photo: Signal, tmp_path: Path
) -> None:
    figures.rd_curve_figure(measured, tmp_path / "rd.png")
    without = [replace(p, ms_ssim=math.nan) for p in measured]
    figures.rd_curve_figure(without, tmp_path / "one_panel.png")
    figures.rd_curve_figure([p for p in measured if p.codec == "jpeg"], tmp_path / "jpeg.png")
    single = [p for p in measured if p.codec == "mine"][:1]
    figures.rd_curve_figure(single, tmp_path / "single.png")
    pixels = photo.pixels
    small = (pixels[:, :7, :9],) * 3
    figures.comparison_figure(pixels, pixels, pixels, tmp_path / "look.png", ["a", "b", "c"])
    figures.comparison_figure(*small, tmp_path / "small.png", ["a", "b", "c"])
    names = {"rd.png", "one_panel.png", "jpeg.png", "single.png", "look.png", "small.png"}
    assert {p.name for p in tmp_path.iterdir()} == names
    sizes = {p.name: Image.open(p).size for p in tmp_path.iterdir()}
    assert sizes["rd.png"][0] == 2 * sizes["one_panel.png"][0]
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []


def test_the_crop_is_where_the_detail_is() -> None:
    image = np.zeros((100, 160, 3), dtype=np.uint8)
    image[60:75, 100:130] = np.random.default_rng(0).integers(0, 256, (15, 30, 3))
    top, left, side = figures.most_detail(image)
    assert top <= 60 and top + side >= 75 and left <= 100 and left + side * 3 // 2 >= 130
