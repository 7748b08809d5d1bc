"""``lic``: what one does with a trained codec; every file of ``commands`` is a command."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
import warnings

from lic_train import __version__
from lic_train import cli as commands
from lic_train.cli import train
from lic_train.cli._shared import import_from_here
from lic_train.utils.faults import one_line, show_any_name


def main(arguments: list[str] | None = None) -> None:
    """Entry point; a fault of the input ends in one line on stderr and exit code 2."""
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["train"]:  # its options are Hydra's, -m and --cfg among them
        train.run(argparse.Namespace(overrides=given[1:]))
        return
    options = _parser().parse_args(given)
    # What libraries say to programmers; stderr is for what concerns the user's files.
    warnings.filterwarnings("ignore", category=FutureWarning)
    show_any_name()
    with one_line("lic"):
        import_from_here(getattr(options, "trust", []))
        options.command(options)


def _parser() -> argparse.ArgumentParser:
    about = "What one does with a trained codec."
    parser = argparse.ArgumentParser(prog="lic", description=about)
    parser.add_argument("--version", action="version", version=f"lic_train {__version__}")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in sorted(module.name for module in pkgutil.iter_modules(commands.__path__)):
        if name.startswith("_"):
            continue
        command = importlib.import_module(f"{commands.__name__}.{name}")
        summary = (command.__doc__ or "").splitlines()[0]
        # A word of Python has an underscore behind it, as a file.
        subparser = subparsers.add_parser(name.rstrip("_"), help=summary, description=summary)
        command.arguments(subparser)
        subparser.set_defaults(command=command.run)
    return parser


if __name__ == "__main__":
    main()
