"""Evaluation images beside what their files decode to, and where the two differ."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lic_train.callbacks.look import Findings, Look, one_image
from lic_train.codec import Codec
from lic_train.codec.signal import Signal, num_pixels, to_uint8
from lic_train.figures.pictures import Decoded, reconstructions_figure
from lic_train.rd import metrics


class Reconstructions(Look):
    """Writes ``reconstructions_<step>.png``: per image the original, then decoded image and error
    map at the coarsest, the middle and the finest rate that the codec has. Of a clip it is the last
    frame; the numbers are of all.

    Args:
        out_dir, every_n_steps, images: see :class:`Look`. Costs up to 3 codings an image.
    """

    @torch.no_grad()
    def look(self, codec: Codec, signals: Sequence[Signal], step: int) -> Findings:
        last = codec.num_rates - 1
        rates = sorted({0, last // 2, last})
        rows = []
        for signal in signals:
            x = signal.pixels[None].float() / 255
            decoded = [_decode(codec, x, rate, last > 0) for rate in rates]
            rows.append((signal.name, one_image(signal.pixels), decoded))
        figure = self.path("reconstructions_*.png", step)
        reconstructions_figure(rows, figure, f"step {step}")
        return Findings(pictures={"live/reconstructions": figure})


def _decode(codec: Codec, x: torch.Tensor, rate: int, several: bool) -> Decoded:
    stream = codec.compress(x, rate)
    decoded = to_uint8(codec.decompress(stream)[0])
    reference = to_uint8(codec.reference(x, rate)[0])
    bpp = 8 * len(stream.to_bytes()) / num_pixels(reference)
    name = f"rate {rate}, " if several else ""
    label = f"{name}{bpp:.3f} bpp, {metrics.psnr(decoded, reference):.2f} dB"
    return Decoded(label, one_image(decoded), one_image(reference))
