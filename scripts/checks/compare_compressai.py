"""The same weights on the same images, judged here and by ``compressai.utils.eval_model``.

    python scripts/checks/compare_compressai.py RUN FOLDER

RUN is an exported joint_prior, mean_scale or scale_only. Prints bpp and PSNR of both and their
differences. CompressAI counts its strings without a file header, pads with zeros to multiples of
64, and codes position after position: give it a few minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file

from lic_train.codec.export import WEIGHTS, load_codec
from lic_train.data.datamodule import Signals
from lic_train.data.sources import ImageFolder
from lic_train.evaluation.measure import evaluate
from lic_train.evaluation.results import Labels
from lic_train.modules.codecs.joint_prior import JointPrior
from lic_train.modules.codecs.mean_scale import MeanScale
from lic_train.modules.codecs.scale_only import ScaleOnly
from lic_train.rd.points import summary

ARCHITECTURES: dict[type, str] = {
    ScaleOnly: "bmshj2018-hyperprior",
    MeanScale: "mbt2018-mean",
    JointPrior: "mbt2018",
}


def theirs(run: Path, folder: Path) -> dict[str, float]:
    """What CompressAI's command measures with the exported weights and tables."""
    state = load_file(run / WEIGHTS)
    architecture = ARCHITECTURES.get(type(load_codec(run)))
    if architecture is None:
        raise SystemExit(f"{run}: these weights fit no CompressAI class")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "state.pth"
        torch.save(state, path)
        command = [sys.executable, "-P", "-W", "ignore", "-m", "compressai.utils.eval_model"]
        command += ["checkpoint", str(folder), "-a", architecture, "-p", str(path), "--no-update"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    results = json.loads(done.stdout[done.stdout.index("{") :])["results"]
    return {"bpp": results["bpp"][0], "psnr": results["psnr-rgb"][0]}


def ours(run: Path, folder: Path) -> dict[str, float]:
    """What ``lic evaluate`` measures."""
    signals = Signals(ImageFolder(folder))
    points = evaluate(load_codec(run), signals, Labels(folder.name, "ours")).points
    means = summary(points)["points"][0]
    return {"bpp": means["bpp"], "psnr": means["psnr"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    a, b = ours(options.run, options.folder), theirs(options.run, options.folder)
    print(f"lic_train    {a['bpp']:.5f} bpp  {a['psnr']:.4f} dB")
    print(f"CompressAI   {b['bpp']:.5f} bpp  {b['psnr']:.4f} dB")
    print(f"difference   {a['bpp'] / b['bpp'] - 1:+.3%}      {a['psnr'] - b['psnr']:+.4f} dB")


if __name__ == "__main__":
    main()
