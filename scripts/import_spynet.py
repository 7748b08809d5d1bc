"""Make pretrained SpyNet weights a run directory, to start the motion part of a video codec from.

    python scripts/import_spynet.py WEIGHTS DIR
    python -m lic_train experiment=dvc_paper ... init_from.motion.run=DIR model.motion.levels=LEVELS

WEIGHTS is a PyTorch state dict (levels coarse to fine, five convolutions each, in order, as public
ports of SpyNet have them) or a folder of ``modelL1_F-1-weight.npy`` ... ``modelL4_F-5-bias.npy``,
DVC's. The number of levels is printed. Ports that normalise colours expect what is not done here:
train on.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor

from lic_train.codec.export import save_codec
from lic_train.errors import LicError, ModelError
from lic_train.modules.layers.motion import MotionPyramid

LAYERS = 5


def read(source: Path) -> list[Tensor]:
    """Weight and bias of every convolution, coarse to fine, first to last."""
    if source.is_dir():
        files: dict[tuple[int, int, bool], Path] = {}
        for path in source.glob("*.npy"):
            if match := re.search(r"modelL(\d+)_F-(\d+)-(weight|bias)$", path.stem):
                files[int(match[1]), int(match[2]), match[3] == "bias"] = path
        return [torch.from_numpy(np.load(files[key])).float() for key in sorted(files)]
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each have their own
        raise ModelError(f"{source} is no PyTorch state dict ({type(error).__name__})") from None
    return [t.float() for name, t in state.items() if name.endswith((".weight", ".bias"))]


def convert(source: Path, directory: Path) -> int:
    """Write the run directory; return the number of levels.

    Raises:
        ModelError: the weights are not of such a pyramid.
    """
    tensors = read(source)
    levels, odd = divmod(len(tensors), 2 * LAYERS)
    if odd or not levels or tensors[0].ndim != 4:
        raise ModelError(f"{source} holds {len(tensors)} tensors, not 10 of each level")
    settings = {"features": int(tensors[0].shape[0]), "levels": levels}
    pyramid = MotionPyramid(**settings)
    names = list(pyramid.state_dict())
    found = dict(zip(names, tensors, strict=True))
    try:
        pyramid.load_state_dict(found)
    except RuntimeError:
        raise ModelError(f"{source} holds other layers than SpyNet's") from None
    target = f"{MotionPyramid.__module__}.{MotionPyramid.__name__}"
    save_codec(directory, pyramid, OmegaConf.create({"_target_": target, **settings}))  # type: ignore[arg-type]
    return levels


def main() -> None:
    """Convert, or say in one line why not."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        print(f"{sys.argv[2]}: levels={convert(Path(sys.argv[1]), Path(sys.argv[2]))}")
    except LicError as error:
        sys.exit(f"import_spynet: error: {error}")


if __name__ == "__main__":
    main()
