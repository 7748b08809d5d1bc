"""Every model shrunk, trained and ready, and real photographs to feed it with."""

from __future__ import annotations

import copy
import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from hydra import compose, initialize_config_dir
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig
from torch import Tensor

from lic_train.codec import Codec
from lic_train.codec.export import ready_copy
from lic_train.data.sources import Samples
from lic_train.training.loss import RateDistortionLoss
from lic_train.training.optim import build_optimizer
from lic_train.utils.configs import config_dir

SHRUNK = {
    **{"N": 8, "M": 16, "enhancement_channels": 4, "enhancement_blocks": 1},
    **{"levels": 4, "depth": 2, "num_rates": 3, "finest": 4},
    **{"features": 8, "blocks": 1, "layers": 2, "growth": 4, "hidden": 16},
    **{"width": 32, "iterations": 3},
}
"""What a test gives to whichever of these arguments a model has."""
SHRUNK_EDIC = [
    f"model.{key}={SHRUNK[key]}" for key in ("N", "M", "enhancement_channels", "enhancement_blocks")
]
"""The same as overrides of a command."""
STEPS = 200
FRAMES = 2  # of a clip: one intra, one predicted
REPOSITORY = Path(__file__).parents[2]
SCRIPTS = REPOSITORY / "scripts"
PHOTOS = (0, 1, 4)  # astronaut, coffee, barbara

# One thread: networks as small as these only lose by more, and two xdist workers share the cores.
torch.set_num_threads(1)


def shrink(node: Any) -> None:
    """Give every model, also those within models, its smallest widths."""
    if isinstance(node, DictConfig):
        for key in node:
            if key in SHRUNK:
                # What is left out stays out, but a width that is null is one that is not given.
                given = node[key] is None and key in ("N", "M")
                node[key] = SHRUNK[key] if given else node[key] and SHRUNK[key]
            else:
                shrink(node[key])


def begin(node: Any, start: str) -> None:
    """Let every codec of a config that has a ``start`` begin that way."""
    for key in node if isinstance(node, DictConfig) else ():
        if key == "start":
            node[key] = start
        else:
            begin(node[key], start)


def _keys(node: Any) -> set[Any]:
    """All keys of a config, at any depth."""
    below = (_keys(node[key]) for key in node) if isinstance(node, DictConfig) else ()
    return set(node if isinstance(node, DictConfig) else ()).union(*below)


def signal_dims(model: DictConfig) -> int:
    """Dimensions of the signals of the codec that a config names."""
    return int(get_class(model._target_).signal_dims)


def panned(x: Tensor, frames: int) -> Tensor:
    """Images ``(N, C, H, W)`` as clips ``(N, frames, C, H, W)`` that move by whole pixels."""
    return torch.stack([x.roll((t, -2 * t), (-2, -1)) for t in range(frames)], dim=1)


class Zoo:
    """Models by the stem of their YAML, and photographs. One for the whole session."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._photos = Samples("train")
        self._ready: dict[str, Codec] = {}

    def config(self, stem: str) -> DictConfig:
        """The model's config as a run would have it, shrunk, its transforms begun as a wavelet if
        they can be; "STEM+random": as noise; "STEM+4": with so many rates."""
        model, _, more = stem.partition("+")
        with initialize_config_dir(config_dir(), version_base="1.3"):
            config = compose("train", [f"model={model}", "lmbda=0.03"]).model
        shrink(config)
        if more.isdecimal():
            config.rates, config.lmbdas = int(more), [0.004, 0.03]
        begin(config, "random" if more == "random" else "wavelet")
        return config

    def steps(self, stem: str) -> int:
        """Of the training that makes its latents: half as many where it begins as a wavelet."""
        begun = {"start", "levels"} & _keys(self.config(stem))  # with levels: the flow's couplings
        return STEPS // 2 if begun and "+" not in stem else STEPS

    def build(self, stem: str, seed: int = 0) -> Codec:
        """Fresh weights, the same for the same seed."""
        torch.manual_seed(seed)
        codec = instantiate(self.config(stem))
        assert isinstance(codec, Codec)
        return codec

    def photo(self, height: int = 512, width: int = 512, index: int = 0) -> Tensor:
        """The top left ``(1, 3, height, width)`` of photograph 0, 1 or 2, in [0, 1]."""
        pixels = self._photos.pixels(PHOTOS[index])[None, :, :height, :width].float() / 255
        assert pixels.shape[-2:] == (height, width)
        return pixels

    def signal(self, stem: str, height: int = 512, width: int = 512, index: int = 0) -> Tensor:
        """A photograph as the model's contract wants its signals: of clips, one that pans."""
        if signal_dims(self.config(stem)) == 4:
            return self.photo(height, width, index)
        return panned(self.photo(min(height, 256), min(width, 256), index), FRAMES)

    def batch(self, crop: int = 64, dims: int = 4) -> Tensor:
        """A random crop of each photograph, ``(3, 3, crop, crop)``, from torch's generator; with 5
        ``dims`` some frames of one of them, ``(1, FRAMES, 3, crop, crop)``."""
        crops = []
        for index in PHOTOS:
            pixels = self._photos.pixels(index)
            top, left = (int(torch.randint(side - crop + 1, ())) for side in pixels.shape[1:])
            crops.append(pixels[:, top : top + crop, left : left + crop])
        x = torch.stack(crops).float() / 255
        return x if dims == 4 else panned(x[torch.randint(3, (1,))], FRAMES)

    def train(self, codec: Codec, steps: int) -> Codec:
        """Real training, seconds: latents that are not zero, under densities that fit them."""
        torch.manual_seed(0)
        net, aux = (partial(torch.optim.Adam, lr=lr) for lr in (5e-3, 1e-2))
        optimizer, sets = build_optimizer(codec.train(), net, aux)
        loss = RateDistortionLoss(0.03)
        # Video codecs hand a frame's error on to the next: at the images' rate theirs grow.
        lr = 5e-3 if codec.signal_dims == 4 else 2e-3
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = lr * min(1, 2 - 2 * step / steps)
            optimizer.zero_grad()
            (loss(codec(self.batch(dims=codec.signal_dims))).loss + codec.aux_loss()).backward()
            torch.nn.utils.clip_grad_norm_(sets.net, 0.3)
            optimizer.step()
        optimizer.zero_grad()
        return codec

    def trained(self, stem: str) -> Codec:
        """A trained codec in training mode, without tables; the caller's own copy."""
        codec, kept = self.build(stem), self._folder / f"{stem}.pt"
        with FileLock(kept.with_suffix(".lock")):  # of two workers one trains, the other waits
            if not kept.is_file():
                torch.save(
                    self.train(codec, self.steps(stem)).state_dict(), kept.with_suffix(".part")
                )
                os.replace(kept.with_suffix(".part"), kept)
        codec.load_state_dict(torch.load(kept, weights_only=True))
        return codec

    def ready(self, stem: str) -> Codec:
        """The trained codec in eval mode with tables; shared, so nobody may change it."""
        if stem not in self._ready:
            self._ready[stem] = ready_copy(self.trained(stem))
        return self._ready[stem]

    def ready_own(self, stem: str) -> Codec:
        """As :meth:`ready`, but the caller's own copy."""
        return copy.deepcopy(self.ready(stem))
