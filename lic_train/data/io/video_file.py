"""A video file is a numbered row of frames; reading begins at the keyframe before the first one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lic_train.errors import DataError

RAW_EXTENSIONS = frozenset({".yuv"})
VIDEO_EXTENSIONS = RAW_EXTENSIONS | {
    *(".y4m", ".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v"),
    *(".mpg", ".mpeg", ".ts", ".m2ts", ".wmv", ".flv", ".ogv", ".3gp"),
}


NAMED_SIZES = {"qcif": (176, 144), "cif": (352, 288), "4cif": (704, 576)}
CHROMA = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}
"""Luma samples per chroma sample, across and down."""


class VideoFile:
    """One video file, opened again for every read.

    Frames are those that a player shows: edit lists and what lies before the first keyframe are
    left out, and recordings of a turned camera are turned upright. They come as RGB by FFmpeg's
    converter, with the colour matrix the file names; BT.601 where it names none. Chroma planes are
    upsampled.

    Args:
        path: raw planes where it ends in ``.yuv``, else whatever FFmpeg recognises.
        size: (width, height) of raw planes; None: from the name, see :func:`raw_size`.
        pixel_format: FFmpeg's name for raw planes; None: from the name, see
            :func:`raw_pixel_format`.

    Raises:
        DataError: naming the file, if it is missing, unreadable, without frames, or raw and of
            unknown size or of a length that is no whole number of frames; or if PyAV is not
            installed.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int] | None = None,
        pixel_format: str | None = None,
    ) -> None:
        self.path = Path(path)
        self._options: dict[str, Any] = {}
        if self.path.suffix.lower() in RAW_EXTENSIONS:
            width, height = size or raw_size(self.path)
            pixel_format = pixel_format or raw_pixel_format(self.path)
            _check_length(self.path, width, height, pixel_format)
            video = {"video_size": f"{width}x{height}", "pixel_format": pixel_format}
            self._options = {"format": "rawvideo", "options": video}
        with self._open() as (container, stream):
            self._times = _shown(packet for packet in container.demux(stream) if packet.size)
        if not self._times:
            raise DataError(f"{path}: holds no frames")

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._times)

    def read(self, start: int, count: int) -> Tensor:
        """Decode some frames in a row.

        Args:
            start: number of the first one, from 0.
            count: how many, at least 1.

        Returns:
            ``(count, 3, H, W)`` uint8, RGB.

        Raises:
            DataError: the file ends or breaks before the last one, or frames differ in size.
        """
        first, frames = self._times[start], []
        with self._open() as (container, stream):
            container.seek(first, stream=stream)  # the keyframe at or before it
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts >= first:
                    pixels = frame.to_ndarray(format="rgb24")
                    frames.append(np.rot90(pixels, frame.rotation // 90))
                    if len(frames) == count:
                        return torch.from_numpy(_stacked(frames)).permute(0, 3, 1, 2)
        raise DataError(f"{self.path}: breaks off after frame {start + len(frames)}; copy it again")

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        """The container and its first video stream; FFmpeg's errors become ours."""
        try:
            import av
        except ImportError:
            raise DataError("videos need PyAV; run: pip install 'lic_train[video]'") from None
        if not self.path.is_file():
            raise DataError(f"{self.path}: no such file; check the path")
        try:
            with av.open(str(self.path), **self._options) as container:
                if not container.streams.video:
                    raise DataError("holds no video stream")
                stream = container.streams.video[0]
                stream.thread_count = 1  # loader processes are many already
                yield container, stream
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from None
        except (av.error.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise DataError(f"{self.path}: is no video that FFmpeg can read ({reason})") from error


def _shown(packets: Iterable[Any]) -> list[int]:
    """Times of the frames that are shown, of packets in the order of decoding."""
    times: list[int] = []
    begun, before = False, False
    for packet in packets:
        if packet.pts is None:
            raise DataError("says no times of its frames; convert it to y4m or mp4")
        if not begun and packet.is_keyframe:
            begun, first = True, packet.pts
        if begun and not packet.is_discard and (packet.pts >= first or not before):
            times.append(packet.pts)
        before = before or not begun
    if len(set(times)) < len(times):
        raise DataError("says the same time of several frames; convert it to y4m or mp4")
    return sorted(times)


def _stacked(frames: list[np.ndarray]) -> np.ndarray:
    if len({frame.shape for frame in frames}) > 1:
        raise DataError("the frames differ in size; convert it to one size")
    return np.stack(frames)


def raw_size(path: Path) -> tuple[int, int]:
    """Width and height that the name of a raw file says: ``_352x288``, or ``_cif`` and its kin.

    Raises:
        DataError: it says none.
    """
    if found := re.search(r"(?<!\d)(\d+)x(\d+)(?!\d)", path.stem):
        return int(found[1]), int(found[2])
    if found := re.search(r"(?<![a-z0-9])(qcif|cif|4cif)(?![a-z0-9])", path.stem.lower()):
        return NAMED_SIZES[found[1]]
    raise DataError(
        f"{path}: raw video of unknown size; name it like x_352x288.yuv, or give --size 352x288 "
        "(data.train.size=[352,288] in training)"
    )


def raw_pixel_format(path: Path) -> str:
    """FFmpeg's name for the planes of a raw file as its name says them, else ``yuv420p``.

    Names such as ``_420_10bit``, ``_yuv444p`` and ``_yuv422p10le`` are understood; samples of more
    than 8 bits are little-endian.
    """
    name = path.stem.lower()
    chroma = re.search(r"(?<!\d)(420|422|444)(?!\d)", name)
    depth = re.search(r"(?<!\d)(8|10|12|16)[-_ ]?b(?:it)?s?(?![a-z])|\dp(10|12|16)(?:le)?", name)
    bits = int(depth[1] or depth[2]) if depth else 8
    return f"yuv{chroma[1] if chroma else 420}p" + (f"{bits}le" if bits > 8 else "")


def _check_length(path: Path, width: int, height: int, pixel_format: str) -> None:
    """A raw file is a whole number of frames; where it is not, size or format are wrong, or it
    was cut."""
    kind = re.fullmatch(r"yuv(420|422|444)p(?:(10|12|14|16)(?:le|be))?", pixel_format)
    if kind is None or not path.is_file():
        return
    across, down = CHROMA[kind[1]]
    samples = width * height + 2 * -(-width // across) * -(-height // down)
    frame, length = samples * (2 if kind[2] else 1), path.stat().st_size
    if length == 0 or length % frame:
        raise DataError(
            f"{path}: {length} bytes are {length // frame} frames of {width}x{height} "
            f"{pixel_format} and {length % frame} bytes more: it was cut, or give its --size and "
            "--pixel-format (data.train.size and .pixel_format in training)"
        )
