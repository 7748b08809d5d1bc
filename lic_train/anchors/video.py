"""Conventional video codecs on the same clips, in the same groups of pictures, through FFmpeg.

A file here is the elementary stream, without a container. Frames go in and come out as RGB, by way
of YCbCr 4:2:0 as every such codec wants it; what that costs is part of the measured PSNR.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lic_train.anchors.base import Anchor, Coded
from lic_train.errors import DataError

PIXELS = "yuv420p"
CRF = (43, 39, 35, 31, 27, 23, 19, 15)
"""Coarse to fine; the last four are the paper's ladder for DVC (arXiv 1812.00101)."""


@dataclass(frozen=True)
class VideoAnchor(Anchor):
    """One video codec at a preset.

    Args:
        name: what the rows say in ``codec``.
        title: what people call it.
        encoder: FFmpeg's name of it.
        format: FFmpeg's name of the elementary stream.
        preset: how hard it tries.
        tune: ``""`` for none.
        rate_control: settings of the encoder, from the frames of a group and the quality.
        qualities: the ladder, coarse to fine.
        gop: frames from one intra frame to the next.
    """

    name: str
    title: str
    encoder: str
    format: str
    preset: str
    tune: str
    rate_control: Callable[[int, int], dict[str, str]]
    qualities: tuple[int, ...] = CRF
    gop: int = 12

    def absent(self) -> str:
        """Why it cannot be used here, one line; ``""``: it can."""
        try:
            import av
        except ImportError:
            return f"{self.title} is absent (no PyAV): it takes pip install 'lic_train[video]'"
        if self.encoder not in av.codecs_available:
            return f"{self.title} is absent: this PyAV was built without {self.encoder}"
        return ""

    def of_group(self, pictures: int) -> VideoAnchor:
        """The same for signals of which every so many pictures one is coded alone."""
        return replace(self, gop=pictures)

    def settings(self, quality: int) -> dict[str, str]:
        """FFmpeg's options, one thread: the file must not depend on the number of cores."""
        own = {"preset": self.preset, "threads": "1", **self.rate_control(self.gop, quality)}
        return own | ({"tune": self.tune} if self.tune else {})

    def command(self, quality: int) -> str:
        """What gives the same file by hand."""
        options = " ".join(f"-{k} {v}" for k, v in self.settings(quality).items())
        source = "-f rawvideo -pix_fmt rgb24 -s WIDTHxHEIGHT -r 25 -i FRAMES"
        coding = f"-c:v {self.encoder} -pix_fmt {PIXELS} {options}"
        return f"ffmpeg {source} {coding} -f {self.format} FILE"

    def describe(self) -> dict[str, str]:
        """How its numbers are made: versions, settings and ladder, for whoever repeats them."""
        import av

        libavcodec = ".".join(map(str, av.library_versions["libavcodec"]))
        return {
            "codec": self.name,
            "title": self.title,
            "through": f"PyAV {av.__version__}",
            "library": f"{self.encoder} in libavcodec {libavcodec}",
            "settings": self.command(self.qualities[0]),
            "qualities": "crf " + ", ".join(map(str, self.qualities)),
        }

    def code(self, pixels: Tensor, quality: int) -> Coded:
        """Encode and decode one clip.

        Args:
            pixels: ``(T, 3, H, W)``, ``uint8``, or one frame.
            quality: crf.

        Raises:
            DataError: the codec refuses the clip.

        4:2:0 has no odd sides: they are coded one pixel longer, the last one repeated.
        """
        import av

        height, width = pixels.shape[-2:]
        frames = pixels.reshape(-1, 3, height, width).permute(0, 2, 3, 1).contiguous().numpy()
        even = ((0, 0), (0, height % 2), (0, width % 2), (0, 0))
        frames = np.pad(frames, even, mode="edge")
        file = io.BytesIO()
        start = time.perf_counter()
        try:
            with av.open(file, "w", format=self.format) as container:
                stream: Any = container.add_stream(
                    self.encoder, rate=25, options=self.settings(quality)
                )
                stream.height, stream.width = frames.shape[1:3]
                stream.pix_fmt = PIXELS
                for frame in frames:
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
                container.mux(stream.encode())
            data = file.getvalue()
            middle = time.perf_counter()
            with av.open(io.BytesIO(data), "r", format=self.format) as coded:
                decoded = [f.to_ndarray(format="rgb24") for f in coded.decode(video=0)]
        except (av.error.FFmpegError, ValueError) as error:
            reason = " ".join(str(error).split())
            size = f"{width}x{height}"
            raise DataError(f"{self.title} cannot code a clip of {size} ({reason})") from error
        decode_s = time.perf_counter() - middle
        if len(decoded) != len(frames):
            raise DataError(f"{self.title} gave {len(decoded)} of {len(frames)} frames back")
        tensor = (
            torch.from_numpy(np.stack(decoded)[:, :height, :width]).permute(0, 3, 1, 2).contiguous()
        )
        return Coded(data, tensor.reshape(pixels.shape), middle - start, decode_s)


def _x264(gop: int, crf: int) -> dict[str, str]:
    # No scene cuts: an intra frame where the codec under test has one, and nowhere else.
    return {"crf": str(crf), "g": str(gop), "keyint_min": str(gop), "sc_threshold": "0"}


def _x265(gop: int, crf: int) -> dict[str, str]:
    one_thread = "pools=none:frame-threads=1:wpp=0:log-level=none"
    return {"x265-params": f"crf={crf}:keyint={gop}:min-keyint={gop}:scenecut=0:{one_thread}"}


VIDEO_ANCHORS = {
    anchor.name: anchor
    for anchor in (
        VideoAnchor("x264", "x264 veryfast zerolatency", "libx264", "h264", "veryfast",
                    "zerolatency", _x264),
        VideoAnchor("x265", "x265 veryfast zerolatency", "libx265", "hevc", "veryfast",
                    "zerolatency", _x265),
        VideoAnchor("x264_slow", "x264 slow", "libx264", "h264", "slow", "", _x264),
        VideoAnchor("x265_slow", "x265 slow", "libx265", "hevc", "slow", "", _x265),
    )
}  # fmt: skip
"""Low delay as DVC's paper has them, and a stronger preset of each with frames out of order."""
