"""Video files as cameras and editors leave them: turned, trimmed, begun between keyframes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT = 96, 64
IDENTITY = b"".join(n.to_bytes(4, "big") for n in (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30))
CLOCKWISE = b"".join(
    (n % 2**32).to_bytes(4, "big") for n in (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
)
"""Matrices of an mp4's track: as it is, and turned by 90 degrees."""


def film(path: Path, frames: int = 24) -> None:
    """A bright square that moves over a gradient; mp4 with frames out of order."""
    with av.open(str(path), "w") as container:
        options = {"g": "12", "bf": "2", "x264-params": "scenecut=0:threads=1"}
        stream: Any = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for t in range(frames):
            picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
            picture[..., 0] = np.arange(WIDTH)
            picture[10:30, 2 * t : 2 * t + 20] = 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def turned(source: Path, path: Path) -> None:
    """The same, with a word that it is to be shown turned clockwise."""
    data = source.read_bytes()
    track = data.index(b"tkhd")
    matrix = data.index(IDENTITY, track)
    path.write_bytes(data[:matrix] + CLOCKWISE + data[matrix + len(IDENTITY) :])


def trimmed(source: Path, path: Path, frames: int) -> None:
    """The same without its first frames, which stay in the file: an editor's cut."""
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        step = int(Fraction(1, 25) / stream.time_base)
    data = bytearray(source.read_bytes())
    entry = data.index(b"elst") + 12  # version, flags and count are 8 bytes
    start = int.from_bytes(data[entry + 4 : entry + 8], "big") + frames * step
    data[entry + 4 : entry + 8] = start.to_bytes(4, "big")
    path.write_bytes(data)


def midstart(source: Path, path: Path, packets: int) -> None:
    """The same from some packet on, between two keyframes: a recording of a broadcast."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size and number >= packets:
                packet.stream = stream
                new.mux(packet)
