"""What motion is worth in a video codec: its predicted frames with it, and with none.

    python scripts/benchmarks/motion_worth.py RUN [RUN ...]

Each clip is coded by each run twice, once with its motion and once with a motion of nothing: bits
per pixel and PSNR of the predicted frames, from real bytes. The clips are a film of the samples,
every third frame of it as well, and photographs that pan.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from lic_train.codec import Codec
from lic_train.codec.export import load_codec
from lic_train.codec.signal import to_uint8
from lic_train.data.sets.clips import clips
from lic_train.data.sources import Samples
from lic_train.rd import metrics

HEIGHT, WIDTH, FRAMES = 192, 256, 8


class Still(nn.Module):
    """No motion anywhere."""

    def forward(self, x: Tensor, reference: Tensor) -> Tensor:
        return torch.zeros_like(reference[:, :2])


def panned(photo: Tensor, down: int, right: int) -> Tensor:
    """uint8 ``(3, H, W)`` to a clip of windows, each so many pixels on from the one before."""
    return torch.stack(
        [photo[:, down * t :, right * t :][:, :HEIGHT, :WIDTH] for t in range(FRAMES)]
    )


def predicted(codec: Codec, x: Tensor) -> tuple[float, float]:
    """Bits per pixel and PSNR of all frames but the first, of x ``(1, T, 3, H, W)``."""
    stream = codec.compress(x)
    decoded, pixels = to_uint8(codec.decompress(stream)), to_uint8(x)
    bits = 8 * sum(len(chunk) for chunk in stream.chunks[1:])
    psnr = metrics.psnr(decoded[0, 1:], pixels[0, 1:])
    return bits / (x[0, 1:].numel() / 3), psnr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    options = parser.parse_args()
    films, photos = clips(None, "eval", frames=24), Samples("eval")
    moving = {
        films.name(0): films.pixels(0)[:FRAMES],
        f"{films.name(0)} every third": films.pixels(0)[::3],
        f"{photos.name(0)} by 1,2": panned(photos.pixels(0), 1, 2),
        f"{photos.name(1)} by 3,5": panned(photos.pixels(1), 3, 5),
    }
    print(f"{'clip':32} {'run':24} {'with motion':>20} {'with none':>20}")
    for name, pixels in moving.items():
        x = pixels[None].float() / 255
        for run in options.runs:
            codecs = [load_codec(run)]
            if codecs[0].motion is not None:  # else it was trained without
                codecs.append(load_codec(run))
                codecs[1].motion = Still()
            cells = [f"{b:.4f} bpp {psnr:.2f} dB" for b, psnr in (predicted(c, x) for c in codecs)]
            print(f"{name:32} {run.name:24}", *(f"{cell:>20}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
