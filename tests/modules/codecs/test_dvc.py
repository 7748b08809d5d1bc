"""Video codecs beyond the laws: motion, groups of pictures, cut files, no drift, the commands."""

from __future__ import annotations

import io
import runpy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.zoo import SCRIPTS, Zoo, panned
from hydra.utils import instantiate
from torch import Tensor

from lic_train.anchors.video import VIDEO_ANCHORS
from lic_train.cli._main import main as lic_main
from lic_train.codec.bitstream import Bitstream
from lic_train.codec.export import load_weights, ready_copy, save_codec
from lic_train.codec.signal import to_uint8
from lic_train.data.io.video_file import VideoFile
from lic_train.data.io.video_writers import write_y4m
from lic_train.data.sets.clips import clips
from lic_train.errors import BitstreamError, ModelError
from lic_train.evaluation.decoder_process import DecoderProcess
from lic_train.experiment import chain
from lic_train.modules.codecs.base.transform import TransformCodec
from lic_train.modules.codecs.dvc import DVC
from lic_train.modules.layers.compensation import Compensation
from lic_train.modules.layers.motion import MotionPyramid, warp
from lic_train.rd import metrics

VIDEO = ("dvc", "edic_dvc")
TWO_THREADS = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}
every_video_model = pytest.mark.parametrize("stem", VIDEO)


def group_of(codec: DVC, stream: Bitstream, number: int) -> Tensor:
    return codec.decompress(Bitstream.from_bytes(codec.group(stream, number).to_bytes()))


@pytest.fixture(scope="module")
def filmed() -> Tensor:
    """Twelve frames of a filmed sample, their middle: ``(1, 12, 3, 56, 72)``."""
    pixels = clips(None, "eval", frames=12, limit=1).pixels(0)
    return pixels[None, :, :, 40:96, 50:122].float() / 255


@pytest.fixture(scope="module", params=VIDEO)
def codec(request: pytest.FixtureRequest, zoo: Zoo) -> DVC:
    ready = zoo.ready_own(request.param)
    assert isinstance(ready, DVC)
    ready.random_access = 5
    return ready


# --- layers


@pytest.mark.parametrize("size", [(9, 12), (1, 7), (1, 1)], ids=str)
def test_no_motion_is_the_identity_and_whole_motion_a_shift(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    motion = torch.zeros(2, 2, *size, dtype=torch.float64)
    assert torch.allclose(warp(x, motion), x, atol=1e-12)
    motion[:, 0] += 2  # two pixels to the right is where it comes from
    columns = torch.arange(size[1]) + 2
    shifted = x[..., columns.clamp(max=size[1] - 1)]  # beyond the border lies the border
    assert torch.allclose(warp(x, motion), shifted, atol=1e-12)


def test_untrained_networks_change_nothing() -> None:
    x, before = torch.rand(2, 1, 3, 21, 34).unbind(0)
    assert not MotionPyramid(features=4, levels=4)(x, before).any()
    motion = torch.randn(1, 2, 21, 34)
    warped = warp(before, motion)
    assert torch.equal(Compensation(features=4)(warped, before, motion), warped)
    paper = Compensation(features=4, sees_motion=True, adds_warped=False)
    assert paper(warped, before, motion).shape == x.shape


@every_video_model
def test_latents_of_motion_do_not_all_begin_at_nothing(stem: str, zoo: Zoo) -> None:
    coder = zoo.build(stem).part("motion_codec")
    assert isinstance(coder, TransformCodec)
    motion = 2 * torch.randn(1, 2, 4, 4).repeat_interleave(16, -1).repeat_interleave(16, -2)
    assert 0.5 < float(coder.analyse(motion).detach().std()) < 30


def test_pretrained_motion_starts_a_part(zoo: Zoo, tmp_path: Path) -> None:
    convert = runpy.run_path(str(SCRIPTS / "import_spynet.py"))["convert"]
    codec = zoo.build("dvc")
    pretrained = MotionPyramid(8, 4)
    for p in pretrained.parameters():
        torch.nn.init.normal_(p)
    arrays = [t.numpy() for t in pretrained.state_dict().values()]
    (tmp_path / "npy").mkdir()
    for k, array in enumerate(arrays):
        level, layer, kind = k // 10 + 1, k % 10 // 2 + 1, ("weight", "bias")[k % 2]
        np.save(tmp_path / "npy" / f"modelL{level}_F-{layer}-{kind}.npy", array)
    torch.save({f"net.{k}": v for k, v in pretrained.state_dict().items()}, tmp_path / "net.pt")
    for source in ("npy", "net.pt"):
        assert convert(tmp_path / source, tmp_path / "run") == 4
        load_weights(codec.part("motion"), tmp_path / "run", "motion")
        own = codec.part("motion").state_dict()
        assert all(torch.equal(t, own[name]) for name, t in pretrained.state_dict().items())
    with pytest.raises(ModelError, match="holds 0 tensors"):
        convert(tmp_path / "run", tmp_path / "other")


# --- files


def test_twelve_frames_do_not_drift(codec: DVC, filmed: Tensor, zoo: Zoo, tmp_path: Path) -> None:
    """The encoder's frames and those of another process with another number of threads."""
    stem = next(s for s in VIDEO if type(zoo.ready(s)) is type(codec))
    save_codec(tmp_path, codec, zoo.config(stem))
    file = tmp_path / "clip.lic"
    file.write_bytes(codec.compress(filmed).to_bytes())
    with DecoderProcess(tmp_path, environment=TWO_THREADS) as decoder:
        pixels, _ = decoder(file)
    assert torch.equal(pixels, to_uint8(codec.reconstruct(filmed)[0]))


def test_a_group_of_pictures_decodes_alone(codec: DVC, filmed: Tensor) -> None:
    stream = codec.compress(filmed)
    whole = codec.decompress(stream)
    codec.random_access = 12  # what the decoder would write itself does not matter
    try:
        groups = [group_of(codec, stream, number) for number in range(3)]
        assert [g.shape[1] for g in groups] == [5, 5, 2]
        assert torch.equal(torch.cat(groups, dim=1), whole)
        with pytest.raises(BitstreamError, match="group 3 asked for, the stream has 3"):
            codec.group(stream, 3)
    finally:
        codec.random_access = 5


def test_a_cut_file_decodes_to_its_last_whole_frame(codec: DVC, filmed: Tensor) -> None:
    stream = codec.compress(filmed[:, :4])
    data, whole = stream.to_bytes(), codec.decompress(stream)
    ends = np.cumsum([len(c) for c in stream.chunks]) + len(data) - 4
    ends -= sum(len(c) for c in stream.chunks)
    for length in (*ends, *(ends - 1), *(ends + 3)):
        frames = int((ends <= length).sum())
        if frames == 0:
            with pytest.raises(BitstreamError):
                codec.salvage(Bitstream.beginning(data[:length]))
            continue
        kept = codec.salvage(Bitstream.beginning(data[:length]))
        assert torch.equal(codec.decompress(kept), whole[:, :frames])
    with pytest.raises(BitstreamError, match="altered"):
        Bitstream.beginning(data)
    altered = bytearray(data[:-5])
    altered[int(ends[1]) - 9] ^= 64
    with pytest.raises(BitstreamError):
        codec.decompress(codec.salvage(Bitstream.beginning(bytes(altered))))


def test_frames_before_an_intra_frame_are_not_looked_at(codec: DVC, filmed: Tensor) -> None:
    stream = codec.compress(filmed[:, :2])
    first, second = stream.chunks
    for chunks in ((second, first), (second, second), (first, b"X" + second[1:]), (first, b"")):
        with pytest.raises(BitstreamError):
            codec.decompress(Bitstream(chunks, stream.shape, 0, stream.fingerprint))


# --- parts


def test_enhancement_begins_at_nothing(zoo: Zoo) -> None:
    enhanced = zoo.build("edic_dvc").eval()
    x = panned(zoo.photo(40, 40), 2)
    with torch.no_grad():
        frames = enhanced.reconstruct(x)
        enhanced.enhancement = None  # type: ignore[assignment]
        assert torch.equal(frames, enhanced.reconstruct(x))


@pytest.mark.parametrize(
    "without",
    [("residual",), ("residual", "compensation"), ("motion", "motion_codec"),
     ("motion", "motion_codec", "residual")],
    ids="-".join,
)  # fmt: skip
def test_a_codec_of_fewer_parts_is_a_codec(without: tuple[str, ...], zoo: Zoo) -> None:
    """The stages of the training are codecs that write files."""
    config = zoo.config("dvc")
    for part in without:
        config[part] = None
    codec, x = instantiate(config), panned(zoo.photo(40, 40), 2)
    codec(x)[-1].x_hat.mean().backward()
    codec.eval().update()
    stream = Bitstream.from_bytes(codec.compress(x).to_bytes())
    assert torch.equal(codec.decompress(stream), codec.reconstruct(x))


def test_terms_of_the_way_are_there_where_they_weigh(zoo: Zoo) -> None:
    codec, x = zoo.build("dvc"), panned(zoo.photo(40, 40), 3)
    assert [r.name for r in codec(x)] == ["frame00", "frame01", "frame02"]
    codec.warp_weight, codec.intra_weight = 0.3, 0.0
    found = {r.name: r.weight for r in codec(x)}
    assert found == pytest.approx(
        {"frame00": 0, "frame01": 1 / 3, "frame02": 1 / 3, "warp01": 0.1, "warp02": 0.1}
    )
    assert all(not r.likelihoods for r in codec(x)[3:])


def test_a_detached_reference_lets_no_gradient_through(zoo: Zoo) -> None:
    for detached in (False, True):
        codec = zoo.build("dvc")
        codec.detach_reference = detached
        codec(panned(zoo.photo(40, 40), 2))[-1].x_hat.mean().backward()
        gradients = [p.grad for p in codec.part("intra.g_s").parameters()]
        assert all(g is None for g in gradients) == detached


def test_parts_that_do_not_go_together(zoo: Zoo) -> None:
    config = zoo.config("dvc")
    parts = {name: instantiate(config[name]) for name in ("intra", "motion", "motion_codec")}
    with pytest.raises(ModelError, match="both, or neither"):
        DVC(parts["intra"], motion=parts["motion"])
    with pytest.raises(ModelError, match="motion_codec codes 3 channels"):
        DVC(parts["intra"], motion=parts["motion"], motion_codec=parts["intra"])
    with pytest.raises(ModelError, match="gop is 0"):
        DVC(parts["intra"], gop=0)
    with pytest.raises(ModelError, match="must each be a transform codec"):
        DVC(parts["intra"], residual=parts["motion"])


def test_signals_of_other_dimensions_are_refused(zoo: Zoo) -> None:
    image, clip = zoo.photo(16, 16), panned(zoo.photo(16, 16), 2)
    with pytest.raises(ModelError, match=r"codes clips .*, what it was given are images"):
        ready_copy(zoo.build("dvc")).compress(image)
    with pytest.raises(ModelError, match=r"codes images .*, what it was given are clips"):
        ready_copy(zoo.build("mean_scale")).compress(clip)


# --- commands


def test_a_video_to_a_file_and_back(
    codec: DVC,
    filmed: Tensor,
    zoo: Zoo,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    stem = next(s for s in VIDEO if type(zoo.ready(s)) is type(codec))
    save_codec(Path("run"), codec, zoo.config(stem))
    frames = to_uint8(filmed[0, :3])
    write_y4m("clip.y4m", frames)
    source = VideoFile("clip.y4m").read(0, 3)
    assert metrics.psnr(source, frames) > 45  # through 8-bit YCbCr 4:4:4

    lic_main(["compress", "clip.y4m", "clip.lic", "--model", "run"])
    printed = capsys.readouterr().out
    assert "72x56, 3 frames, " in printed and "a second" in printed
    size = Path("clip.lic").stat().st_size
    assert f"{size} bytes, {metrics.bpp(size, 72, 56, 3):.4f} bpp" in printed
    lic_main(["decompress", "clip.lic", "frames", "--model", "run"])
    assert "3 frames, " in capsys.readouterr().out
    assert sorted(p.name for p in Path("frames").iterdir()) == [f"0000{t}.png" for t in range(3)]
    lic_main(["decompress", "clip.lic", "out.y4m", "--model", "run"])
    assert VideoFile("out.y4m").read(0, 3).shape == frames.shape

    Path("cut.lic").write_bytes(Path("clip.lic").read_bytes()[:-6])
    lic_main(["decompress", "cut.lic", "cut", "--model", "run"])
    streams = capsys.readouterr()
    assert "2 frames, " in streams.out and "decoding what is whole" in streams.err
    for name in ("00000.png", "00001.png"):
        assert Path("cut", name).read_bytes() == Path("frames", name).read_bytes()
    for arguments, words in (
        (["decompress", "clip.lic", "out.png"], "out.png must be a folder"),
        (["decompress", "clip.lic", "frames"], "frames cannot be written"),
        (["compress", "frames/00000.png", "x.lic"], "codes clips"),
        (["compress", "clip.y4m", "x.lic", "--frames", "4"], "--frames 4: clip.y4m has 3 frames"),
    ):
        with pytest.raises(SystemExit) as caught:
            lic_main([*arguments, "--model", "run"])
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
    assert not Path("x.lic").exists() and not list(Path().glob(".*.tmp"))


def test_a_chain_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []

    class Ran:
        returncode = 0

    def record(command: list[str], env: dict[str, str]) -> Ran:
        assert command[1] == "-P" and "PYTHONSAFEPATH" in env
        started.append(command[4:])
        return Ran()

    monkeypatch.setattr(chain.subprocess, "run", record)
    (tmp_path / "1_dvc_intra").mkdir()
    (tmp_path / "1_dvc_intra" / chain.FINISHED).write_text("{}")
    arguments = ["chain=dvc", "lmbda=0.01", f"hydra.run.dir={tmp_path}"]
    assert chain.asked(arguments) and not chain.asked(["--cfg", "job", *arguments])
    assert chain.run(arguments) == tmp_path / "5_dvc_rollout"
    stages = ("dvc_intra", "dvc_motion", "dvc_compensation", "dvc_single", "dvc_rollout")
    assert started == [
        [
            f"experiment={stage}",
            f"init_from.intra.run={tmp_path}/{number - 1}_{before}",
            "lmbda=0.01",
            f"hydra.run.dir={tmp_path}/{number}_{stage}",
        ]
        for number, (before, stage) in enumerate(pairwise(stages), start=2)
    ]


# --- anchors


@pytest.mark.parametrize("name", VIDEO_ANCHORS)
def test_video_anchors_code_the_same_frames(name: str, filmed: Tensor) -> None:
    import av

    anchor = VIDEO_ANCHORS[name].of_group(5)
    assert anchor.absent() == "" and "crf" in anchor.command(23)
    pixels = to_uint8(filmed[0])
    sizes, quality = [], []
    for crf in (35, 19):
        coded = anchor.code(pixels, crf)
        assert coded.pixels.shape == pixels.shape
        sizes.append(len(coded.data))
        quality.append(metrics.psnr(coded.pixels, pixels))
        with av.open(io.BytesIO(coded.data), format=anchor.format) as file:
            keys = [t for t, frame in enumerate(file.decode(video=0)) if frame.key_frame]
        assert keys == [0, 5, 10]
    assert sizes[0] < sizes[1] and quality[0] < quality[1] and quality[1] > 30
    assert anchor.code(pixels, 35).data == anchor.code(pixels, 35).data
    odd = pixels[..., :55, :71]  # coded one pixel longer: 4:2:0 has no odd sides
    coded = anchor.code(odd, 19)
    assert coded.pixels.shape == odd.shape and metrics.psnr(coded.pixels, odd) > 30
