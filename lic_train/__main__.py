"""``python -m lic_train experiment=edic_gmm``: train a codec and end in real files."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings

import hydra
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig

from lic_train.experiment import chain
from lic_train.experiment import help as page
from lic_train.runs.names import with_target
from lic_train.utils.configs import config_dir
from lic_train.utils.faults import one_line, show_any_name

TRACES = "HYDRA_FULL_ERROR" in os.environ
"""Whether the user asked Hydra for full errors; :func:`main` sets the variable for itself."""


@hydra.main(version_base="1.3", config_path=config_dir(), config_name="train")
def train(cfg: DictConfig) -> None:
    """One Hydra job: one run."""
    from lic_train.experiment.run import run

    # Lightning sets its own level while it is imported.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    with one_line("lic_train", TRACES):  # here: Hydra would print a line of its own before ours
        run(cfg)


def sweep_arguments() -> argparse.Namespace | None:
    """The command line, if it asks for a sweep; Hydra's own multirun could not resume one."""
    arguments = get_args_parser().parse_intermixed_args()
    asked = arguments.multirun or any(
        override.startswith(("sweep=", "hydra.mode=MULTIRUN")) for override in arguments.overrides
    )
    shows = arguments.cfg or arguments.info or arguments.help or arguments.hydra_help
    return arguments if asked and not shows else None


def main() -> None:
    """Run; a fault of the input ends in one line on stderr and exit code 2."""
    os.environ.setdefault("WANDB_SILENT", "true")
    show_any_name()
    # What these say is about the libraries, not about the run.
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
    sys.argv[1:] = with_target(sys.argv[1:])
    if page.asked(sys.argv[1:]):
        print(page.page())
        return
    with one_line("lic_train", TRACES):
        if chain.asked(sys.argv[1:]):
            chain.run(sys.argv[1:])
            return
        if arguments := sweep_arguments():
            from lic_train.sweep.run import main as sweep

            sys.exit(sweep(arguments))
        # Makes Hydra raise instead of printing its own page and exiting.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        train()


if __name__ == "__main__":
    main()
    sys.exit(0)
