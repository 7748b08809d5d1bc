"""Create the saved W&B view that compares every run: RD curves over bpp, live pictures, training.

    pip install wandb-workspaces
    python scripts/wandb_workspace.py ENTITY [--project lic_train] [--report]

It needs a W&B account and its server (`wandb login`; offline runs come there by `wandb sync`): a
saved view lives nowhere else. What it shows are the names that lic_train/loggers/results.py
promises, which are the same for every codec.
"""

from __future__ import annotations

import argparse
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

NAME = "lic_train: rate-distortion"
STEP = "trainer/global_step"


def sections() -> list[Any]:
    """Panels by what they are about."""
    qualities = {"psnr": "PSNR, dB", "ms_ssim_mean_of_db": "MS-SSIM, mean of dB"}
    curves = [
        wr.LinePlot(title=f"{title} over bpp", x="curve/bpp", y=[f"curve/{key}"])
        for key, title in qualities.items()
    ]
    points = wr.ScatterPlot(title="finished runs", x="rd/bpp", y="rd/psnr")
    live = [
        wr.LinePlot(title=f"{key} while it trains", x=STEP, y=[f"live/{key}"])
        for key in ("bpp", "psnr", "saved/jpeg")
    ]
    pictures = [
        wr.MediaBrowser(title=key, media_keys=[f"live/{key}"])
        for key in ("rd_curve", "reconstructions", "latents")
    ]
    training = [
        wr.LinePlot(title=key, x=STEP, y=[f"train/{key}", f"val/{key}"])
        for key in ("loss", "bpp_estimated", "distortion")
    ]
    vitals = [
        wr.LinePlot(title=title, x=STEP, y=keys)
        for title, keys in {
            "learning rates": ["lr/net", "lr/net_muon", "lr/net_adam", "lr/aux"],
            "images per second": ["speed/images_per_s"],
            "norm of the gradient": ["train/grad_norm"],
            "memory, GB": ["memory/host_gb", "memory/gpu_gb"],
        }.items()
    ]
    return [
        ws.Section(name="Rate-distortion", panels=[*curves, points], is_open=True),
        ws.Section(name="While it trains", panels=[*live, *pictures], is_open=True),
        ws.Section(name="Training", panels=training, is_open=False),
        ws.Section(name="Learning rate, speed, memory", panels=vitals, is_open=False),
    ]


def workspace(entity: str, project: str) -> Any:
    """A workspace whose runs are grouped by the sweep that they are of."""
    settings = ws.RunsetSettings(groupby=[ws.Metric("Group")])
    return ws.Workspace(
        entity=entity, project=project, name=NAME, sections=sections(), runset_settings=settings
    )


def report(entity: str, project: str) -> Any:
    """The same panels as a W&B report."""
    runs = wr.Runset(entity=entity, project=project, groupby=["Group"])
    blocks: list[Any] = []
    for section in sections():
        blocks += [wr.H1(section.name), wr.PanelGrid(runsets=[runs], panels=section.panels)]
    return wr.Report(entity=entity, project=project, title=NAME, blocks=blocks)


def main() -> None:
    """Create it and print its address."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("entity")
    parser.add_argument("--project", default="lic_train")
    parser.add_argument("--report", action="store_true", help="a report instead of a workspace")
    options = parser.parse_args()
    make = report if options.report else workspace
    saved = make(options.entity, options.project).save()
    print(saved.url)


if __name__ == "__main__":
    main()
