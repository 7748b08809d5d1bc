"""A video has the frames that a player shows, upright, and raw files say what they are."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from helpers import odd_videos

from lic_train.anchors.video import VIDEO_ANCHORS
from lic_train.data.io.video_file import VideoFile, raw_pixel_format, raw_size
from lic_train.data.sets.clips import clips
from lic_train.errors import DataError


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    odd_videos.film(path)
    return path


def shown(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("kind", ["whole", "trimmed", "midstart"])
def test_frames_are_those_that_are_shown(kind: str, film: Path, tmp_path: Path) -> None:
    path = tmp_path / ("x.mkv" if kind == "midstart" else "x.mp4")
    if kind == "whole":
        path = film
    elif kind == "trimmed":
        odd_videos.trimmed(film, path, 5)
    else:
        odd_videos.midstart(film, path, 7)
    expected, video = shown(path), VideoFile(path)
    assert len(video) == len(expected) == {"whole": 24, "trimmed": 19, "midstart": 12}[kind]
    frames = video.read(0, len(video)).permute(0, 2, 3, 1).numpy()
    assert all(np.array_equal(a, b) for a, b in zip(frames, expected, strict=True))
    for start in (1, 4, len(video) - 2):
        assert torch.equal(video.read(start, 2), video.read(0, len(video))[start : start + 2])
    names = [f"x#{start}" for start in range(0, len(video) - 5, 6)]
    assert len(clips(None, "eval", path, frames=6)) == len(names)


def test_a_turned_recording_is_turned_upright(film: Path, tmp_path: Path) -> None:
    odd_videos.turned(film, tmp_path / "turned.mp4")
    flat, upright = VideoFile(film).read(3, 2), VideoFile(tmp_path / "turned.mp4").read(3, 2)
    assert upright.shape == (2, 3, odd_videos.WIDTH, odd_videos.HEIGHT)
    assert torch.equal(upright, torch.rot90(flat, -1, (-2, -1)))  # clockwise


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Beauty_1920x1080_120fps_420_8bit_YUV", "yuv420p"),
        ("Beauty_1920x1080_120fps_420_10bit_YUV", "yuv420p10le"),
        ("x_64x64_444_12bit", "yuv444p12le"),
        ("x_64x64_yuv422p10le", "yuv422p10le"),
        ("x_64x64_422", "yuv422p"),
        ("Bosphorus_1280x720p60", "yuv420p"),
    ],
)
def test_the_name_of_a_raw_file_says_its_format(name: str, expected: str) -> None:
    assert raw_pixel_format(Path(f"{name}.yuv")) == expected


def test_raw_files_of_more_than_8_bits(tmp_path: Path) -> None:
    levels = np.arange(16, 236, 20, dtype=np.uint16)[:4]
    for bits, kind in ((8, np.uint8), (10, np.uint16)):
        frames = []
        for level in levels:
            luma = np.full(32 * 16, level << (bits - 8), kind)
            frames += [luma, np.full(256, 128 << (bits - 8), kind)]
        name = tmp_path / f"x_32x16_420_{bits}bit.yuv"
        name.write_bytes(np.concatenate(frames).tobytes())
    eight, ten = (VideoFile(tmp_path / f"x_32x16_420_{bits}bit.yuv") for bits in (8, 10))
    assert len(eight) == len(ten) == 4
    assert (eight.read(0, 4).int() - ten.read(0, 4).int()).abs().max() <= 1
    as_eight = VideoFile(tmp_path / "x_32x16_420_10bit.yuv", pixel_format="yuv420p")
    assert len(as_eight) == 8  # what is said counts more than the name


def test_raw_files_that_are_no_whole_frames(tmp_path: Path) -> None:
    assert raw_size(Path("foreman_cif.yuv")) == (352, 288)
    assert raw_size(Path("carphone_QCIF_30.yuv")) == (176, 144)
    cut = tmp_path / "cut_32x16.yuv"
    cut.write_bytes(bytes(768 * 3 + 100))
    with pytest.raises(DataError, match="2404 bytes are 3 frames of 32x16 yuv420p and 100 bytes"):
        VideoFile(cut)
    with pytest.raises(DataError, match=r"unknown size; .*--size 352x288"):
        raw_size(Path("specific.yuv"))


def test_odd_sides_beside_x264() -> None:
    ramp = torch.arange(63)[:, None] + torch.arange(105)
    clip = torch.stack([ramp + 10 * t for t in range(3)])[:, None].expand(-1, 3, -1, -1)
    clip = clip.to(torch.uint8).contiguous()
    coded = VIDEO_ANCHORS["x264"].code(clip, 4)
    assert coded.pixels.shape == clip.shape
    off = (coded.pixels.float() - clip.float()).abs()
    assert off.mean() < 2 and off[..., -1].mean() < 3 and off[..., -1, :].mean() < 3


def test_recordings_that_were_joined_are_told(tmp_path: Path) -> None:
    """Of two in one file the times begin again, and with them the numbers of frames."""
    film = tmp_path / "x.mp4"
    odd_videos.film(film, 8)
    with av.open(str(film)) as old, av.open(str(tmp_path / "x.ts"), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                packet.stream = stream
                new.mux(packet)
    once = (tmp_path / "x.ts").read_bytes()
    (tmp_path / "twice.ts").write_bytes(2 * once)
    assert len(VideoFile(tmp_path / "x.ts")) == 8
    with pytest.raises(DataError, match="the same time of several frames"):
        VideoFile(tmp_path / "twice.ts")
