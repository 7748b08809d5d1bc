"""What a result was made with: versions, commit and machine, for whoever repeats it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version

from lic_train import __version__
from lic_train.utils.working_copy import commits

LIBRARIES = ("torch", "pytorch-lightning", "compressai", "constriction", "numpy")


def environment() -> dict[str, str]:
    """Versions of this package, Python and the libraries that numbers depend on; the machine.

    Of a working copy also its commit, see :func:`~lic_train.utils.working_copy.commits`.
    """
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "lic_train": __version__,
        **commits(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "system": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "gpu": ", ".join(gpus) or "none",
    }
