"""A chain of experiments, each started from the run before it: one command that can be resumed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir

from lic_train.errors import TrainingError
from lic_train.runs.listing import CHAIN
from lic_train.utils.configs import config_dir
from lic_train.utils.files import write_whole
from lic_train.utils.safe_path import python_module, safe_environment

FINISHED = "rd_summary.json"
"""The last table that a run writes."""
RUN_DIR = "hydra.run.dir="


def asked(arguments: Sequence[str]) -> bool:
    """Whether a command line wants a chain run, and not to look at its config."""
    return any(a.startswith("chain=") for a in arguments) and not any(
        a.startswith("-") for a in arguments
    )


def run(arguments: Sequence[str]) -> Path:
    """Run every stage that is not finished; return the last one's directory.

    Args:
        arguments: ``chain=NAME``, perhaps ``hydra.run.dir=DIR`` (default ``runs/chain_NAME``), and
            overrides for every stage.

    Raises:
        TrainingError: a stage failed; the same command resumes from it.
        HydraException: there is no such chain.
    """
    chosen = [a for a in arguments if a.startswith("chain=")]
    directories = [a.removeprefix(RUN_DIR) for a in arguments if a.startswith(RUN_DIR)]
    shared = [a for a in arguments if not a.startswith(("chain=", RUN_DIR))]
    with initialize_config_dir(config_dir(), version_base="1.3"):
        chain = compose("train", chosen).chain
    name = chosen[-1].partition("=")[2]
    root = Path((directories or [f"runs/chain_{name}"])[-1]).resolve()
    write_whole(root / CHAIN, json.dumps({"chain": name, "stages": list(chain.stages)}).encode())
    run_dir: Path | None = None
    for number, stage in enumerate(chain.stages, start=1):
        before, run_dir = run_dir, root / f"{number}_{stage}"
        head = f"stage {number} of {len(chain.stages)}, {stage}"
        if (run_dir / FINISHED).is_file():
            print(f"{head}: finished, in {run_dir}", flush=True)
            continue
        print(head, flush=True)
        start = [f"{chain.start}={before}"] if before else []
        command = [f"experiment={stage}", *start, *shared, f"{RUN_DIR}{run_dir}"]
        status = subprocess.run(
            python_module("lic_train", *command), env=safe_environment()
        ).returncode
        if status:
            raise TrainingError(f"{head}, ended with {status}: the same command resumes from there")
    assert run_dir is not None
    return run_dir
