"""Decoded frames are written all or nothing, to a folder of PNG images or to one y4m file."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from torch import Tensor

from lic_train.errors import DataError
from lic_train.utils.files import write_png, written_whole

FRAMES_PER_SECOND = 25
"""Frame rate in the header of a y4m file, which must have one; it does not affect the pixels."""


def write_frames(path: str | Path, frames: Tensor) -> None:
    """Write frames as ``00000.png``, ``00001.png``, ... into a folder, all or nothing.

    Args:
        path: the folder; new or empty, in an existing folder.
        frames: uint8 ``(T, 3, H, W)``.

    Raises:
        DataError: the folder is not empty or cannot be written.
        ValueError: the frames have another type or shape.
    """
    folder = Path(path)
    temporary = folder.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        temporary.mkdir()
        for number, frame in enumerate(frames):
            write_png(temporary / f"{number:05d}.png", frame, make_folder=False)
        os.replace(temporary, folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_y4m(path: str | Path, frames: Tensor) -> None:
    """Write frames as one y4m file of BT.601 YCbCr without chroma subsampling, all or nothing.

    Args:
        path: the file, in an existing folder.
        frames: uint8 ``(T, 3, H, W)``.

    Raises:
        DataError: the file cannot be written, or PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise DataError("videos need PyAV; run: pip install 'lic_train[video]'") from None
    file = Path(path)
    try:
        with (
            written_whole(file, make_folder=False) as whole,
            av.open(str(whole), "w", format="yuv4mpegpipe") as container,
        ):
            stream: Any = container.add_stream("wrapped_avframe", rate=FRAMES_PER_SECOND)
            stream.height, stream.width = frames.shape[-2:]
            stream.pix_fmt = "yuv444p"
            for pixels in frames:
                rgb = pixels.permute(1, 2, 0).contiguous().numpy()
                frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv444p")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    except (OSError, av.error.FFmpegError) as error:
        raise DataError(f"{file} cannot be written: {error.strerror}") from None
