"""A video file is a numbered row of frames; reading begins at the keyframe before the first one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lic_train.errors import DataError

RAW_EXTENSIONS = frozenset({".yuv"})
VIDEO_EXTENSIONS = RAW_EXTENSIONS | {".y4m", ".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v"}


class VideoFile:
    """One video file, opened again for every read.

    Frames are converted to RGB by FFmpeg, with the colour matrix that the file names, or BT.601
    where it names none. Chroma planes are upsampled.

    Args:
        path: raw planes if it ends in ``.yuv``, otherwise any file that FFmpeg recognises.
        size: (width, height) of raw planes; ``None``: taken from a name such as ``x_352x288.yuv``.
        pixel_format: FFmpeg's name for the format of raw planes.

    Raises:
        DataError: the file is missing, unreadable or without frames or their times, the size of raw
            planes is unknown, or PyAV is not installed. The text names the file.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int] | None = None,
        pixel_format: str = "yuv420p",
    ) -> None:
        self.path = Path(path)
        self._options: dict[str, Any] = {}
        if self.path.suffix.lower() in RAW_EXTENSIONS:
            if size is None:
                found = re.search(r"(?<!\d)(\d+)x(\d+)(?!\d)", self.path.stem)
                if found is None:
                    raise DataError(f"{path}: raw video of unknown size; give size=[WIDTH,HEIGHT]")
                size = int(found[1]), int(found[2])
            video = {"video_size": f"{size[0]}x{size[1]}", "pixel_format": pixel_format}
            self._options = {"format": "rawvideo", "options": video}
        with self._open() as (container, stream):
            packets = [p for p in container.demux(stream) if p.size]
            if any(packet.pts is None for packet in packets):
                raise DataError("says no times of its frames; convert it to y4m or mp4")
            self._times = sorted(packet.pts for packet in packets)
        if not self._times:
            raise DataError(f"{path}: holds no frames")

    def __len__(self) -> int:
        """Number of frames."""
        return len(self._times)

    def read(self, start: int, count: int) -> Tensor:
        """Decode ``count`` consecutive frames.

        Args:
            start: number of the first frame, from 0.
            count: at least 1.

        Returns:
            uint8 ``(count, 3, H, W)``, RGB.

        Raises:
            DataError: the file is missing or unreadable, or ends before the last of these frames.
        """
        first, frames = self._times[start], []
        with self._open() as (container, stream):
            container.seek(first, stream=stream)  # the keyframe at or before it
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts >= first:
                    frames.append(frame.to_ndarray(format="rgb24"))
                    if len(frames) == count:
                        return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
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
