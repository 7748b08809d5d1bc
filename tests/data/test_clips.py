"""Clips come out of video files and septuplets frame by frame, and crops treat frames alike."""

from __future__ import annotations

import builtins
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lic_train.data.datamodule import ImageDataModule
from lic_train.data.io.images import read_image
from lic_train.data.io.video_file import VideoFile
from lic_train.data.sets.clips import VideoClips, VimeoClips, clips, clips_and_stills
from lic_train.data.sets.vimeo import VimeoFrames
from lic_train.data.transforms import RandomResizedCrop
from lic_train.errors import DataError


def every_frame(path: Path) -> Tensor:
    """All frames of a file in one go, without seeking."""
    import av

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", ["a.mp4", "b.y4m"])
def test_any_run_of_frames_is_that_of_the_whole_video(trees: Path, name: str) -> None:
    path = trees / "clips" / name
    whole, video = every_frame(path), VideoFile(path)
    assert len(video) == len(whole) == 16 and whole.shape[1:] == (3, 144, 176)
    for start, count in ((0, 16), (3, 7), (13, 3), (15, 1)):
        assert torch.equal(video.read(start, count), whole[start : start + count])


def test_frames_between_keyframes_of_a_sample() -> None:
    (name, video, _) = clips(None, "eval").clips[0]
    assert name == "carphone_pristine#0"
    whole = every_frame(video.path)
    for start in (1, 59, 118):
        assert torch.equal(video.read(start, 2), whole[start : start + 2])


def test_raw_yuv_is_read_by_its_size(tmp_path: Path) -> None:
    grey = np.repeat(np.arange(16, 235, 50, dtype=np.uint8), 32 * 16)  # 5 frames, each of one luma
    planes = np.concatenate([grey.reshape(5, -1), np.full((5, 256), 128, np.uint8)], 1)
    (tmp_path / "x_32x16.yuv").write_bytes(planes.tobytes())
    (tmp_path / "y.yuv").write_bytes(planes.tobytes())
    named, told = VideoFile(tmp_path / "x_32x16.yuv"), VideoFile(tmp_path / "y.yuv", (32, 16))
    assert torch.equal(named.read(0, 5), told.read(0, 5))
    levels = named.read(1, 4).float().mean((1, 2, 3)).tolist()
    assert levels == pytest.approx([255 * (50 * i) / 219 for i in range(1, 5)], abs=1)
    with pytest.raises(DataError, match=r"unknown size.*--size"):
        VideoFile(tmp_path / "y.yuv")


def test_videos_are_cut_into_clips(trees: Path) -> None:
    files = [(name, trees / "clips" / name) for name in ("a.mp4", "b.y4m")]
    source = VideoClips(files, frames=5)
    assert [source.name(i) for i in range(len(source))] == [
        *("a.mp4#0", "a.mp4#5", "a.mp4#10", "b.y4m#0", "b.y4m#5", "b.y4m#10")
    ]
    assert torch.equal(source.pixels(4), every_frame(trees / "clips" / "b.y4m")[5:10])
    assert len(VideoClips(files, frames=5, stride=1)) == 2 * 12
    small = VideoClips(files, frames=2, limit=1, longest_side=44)
    assert len(small) == 1 and small.pixels(0).shape == (2, 3, 36, 44)
    with pytest.raises(DataError, match=r"a.mp4: has 16 frames and a clip 17"):
        VideoClips(files, frames=17)


def test_training_and_evaluation_clips_are_of_different_files(trees: Path) -> None:
    def files(source: VideoClips) -> set[str]:
        return {source.name(i).partition("#")[0] for i in range(len(source))}

    root = trees / "clips"
    assert files(clips(root, "eval")) == {"a.mp4", "d_176x144_25fps.yuv"}
    assert files(clips(root, "train")) == {"b.y4m", "c.y4m"}
    assert files(clips(root, "train", root / "b.y4m")) == {"a.mp4", "c.y4m", "d_176x144_25fps.yuv"}
    assert files(clips(root, "eval", root / "b.y4m")) == {"b.y4m"}
    assert files(clips(None, "train")) == {"bikes", "bigbuckbunny"}
    assert files(clips(None, "eval", root / "b.y4m")) == {"b.y4m"}
    with pytest.raises(DataError, match="one video cannot be split"):
        clips(root / "b.y4m", "train")


def test_septuplets_and_their_frames(trees: Path) -> None:
    root = trees / "vimeo_septuplets"
    source = VimeoClips(root, "train")
    assert [source.name(i) for i in range(len(source))] == ["00001/0001", "00002/0003"]
    clip = source.pixels(1)
    assert clip.shape == (7, 3, 256, 448) and clip.dtype == torch.uint8
    folder = root / "sequences" / "00002" / "0003"
    assert torch.equal(clip[6], read_image(folder / "im7.png").pixels)
    assert VimeoClips(root, "eval", frames=2).pixels(0).shape == (2, 3, 256, 448)
    frames = VimeoFrames(root, "train")
    assert len(frames) == 14 and torch.equal(frames.pixels(13), clip[6])
    assert [VimeoFrames(root, "train", frame=4).name(i) for i in (0, 1)] == [
        *("00001/0001/im4.png", "00002/0003/im4.png")
    ]
    assert len(VimeoFrames(trees / "vimeo", "train")) == 6  # triplets


def test_another_layout_of_vimeo_names_the_expected_and_the_found(
    trees: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        DataError, match=r"expected sequences/.*sep_trainlist.*found .*tri_testlist"
    ):
        VimeoClips(trees / "vimeo", "train")
    with pytest.raises(DataError, match=r"data\.root=FOLDER"):
        VimeoFrames(None, "train")
    shutil.copytree(trees / "vimeo_septuplets", tmp_path / "x")
    (tmp_path / "x" / "sequences" / "00001" / "0001" / "im7.png").unlink()
    with pytest.raises(DataError, match=r"expected im1.png to im7.png, found im1.png, im2"):
        VimeoClips(tmp_path / "x", "train")
    with pytest.raises(DataError, match="no 8 frames"):
        VimeoClips(trees / "vimeo_septuplets", "train", frames=8)


def test_videos_that_cannot_be_read_name_themselves(
    trees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "junk.mp4").write_bytes(b"no video " * 99)
    for path, words in (("junk.mp4", "no video that FFmpeg"), ("no.mp4", "no such file")):
        with pytest.raises(DataError, match=rf"{path}.*{words}"):
            VideoFile(tmp_path / path)
    data = (trees / "clips" / "a.mp4").read_bytes()
    (tmp_path / "half.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"half\.mp4"):
        VideoFile(tmp_path / "half.mp4").read(0, 16)
    real = builtins.__import__

    def without_av(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "av":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(DataError, match="pip install 'lic_train\\[video\\]'"):
        VideoFile(trees / "clips" / "a.mp4")


@pytest.mark.parametrize("min_scale", [1, 0.5])
def test_all_frames_of_a_clip_are_cropped_alike(trees: Path, min_scale: float) -> None:
    clip = VimeoClips(trees / "vimeo_septuplets", "train").pixels(0)
    crop = RandomResizedCrop(64, min_scale=min_scale, vertical_flip=True, transpose=True)
    for seed in range(8):
        cropped = crop(clip, torch.Generator().manual_seed(seed))
        assert cropped.shape == (7, 3, 64, 64)
        for frame, of_clip in zip(clip, cropped, strict=True):
            alone = crop(frame, torch.Generator().manual_seed(seed))
            assert torch.equal(alone, of_clip)


def test_a_crop_pans_at_a_steady_speed_inside_the_image() -> None:
    rows, columns = torch.meshgrid(torch.arange(90), torch.arange(120), indexing="ij")
    photo = torch.stack([rows, columns, rows]).to(torch.uint8)  # pixels that say where they are
    clip, speeds = photo.expand(5, -1, -1, -1), []
    plain = RandomResizedCrop(32, 1, horizontal_flip=False)
    crop = RandomResizedCrop(32, 1, horizontal_flip=False, pan=6)
    for seed in range(40):
        cropped = crop(clip, torch.Generator().manual_seed(seed)).long()
        corners = cropped[:, :2, 0, 0]
        for frame, (top, left) in zip(cropped, corners.tolist(), strict=True):
            assert torch.equal(frame, photo[:, top : top + 32, left : left + 32].long())
        steps = corners.diff(dim=0)
        assert steps.abs().max() <= 6 and ((steps.amax(0) - steps.amin(0)) <= 1).all()
        speeds += (corners[-1] - corners[0]).tolist()
        alone = (c(photo, torch.Generator().manual_seed(seed)) for c in (crop, plain))
        assert torch.equal(*alone)  # of an image nothing pans
    assert min(speeds) < -8 and max(speeds) > 8
    tight = RandomResizedCrop(89, 1, pan=100)(clip, torch.Generator().manual_seed(1))
    assert tight.shape == (5, 3, 89, 89)
    with pytest.raises(DataError, match="pan is -1"):
        RandomResizedCrop(8, pan=-1)


def test_photographs_stand_still_among_the_sample_clips(trees: Path) -> None:
    films = clips_and_stills(None, "train", frames=2, stride=60)
    source = clips_and_stills(None, "train", frames=2, stills=2, stride=60)
    assert len(source) == len(films) + 2 * 7
    still = source.pixels(len(films) + 7)
    assert source.name(len(films) + 7) == "astronaut#still1"
    assert still.shape == (2, 3, 512, 512) and torch.equal(still[0], still[1])
    root = trees / "clips"  # clips of one's own stay among themselves
    assert len(clips_and_stills(root, "train", stills=2)) == len(clips(root, "train"))


def test_batches_and_signals_have_a_frame_axis(trees: Path) -> None:
    root = trees / "vimeo_septuplets"
    data = ImageDataModule(
        *(VimeoClips(root, "train"), VimeoClips(root, "eval"), RandomResizedCrop(32, 1)),
        batch_size=2,
        eval_crop=48,
    )
    batch = next(iter(data.train_dataloader()))
    assert batch.x.shape == (2, 7, 3, 32, 32) and batch.x.dtype == torch.uint8
    assert torch.equal(data.on_after_batch_transfer(batch, 0).x, batch.x / 255)
    assert next(iter(data.val_dataloader())).x.shape == (1, 7, 3, 48, 48)
    (signal,) = data.signals()
    assert signal.pixels.shape == (7, 3, 256, 448) and signal.name == "00001/0002"
