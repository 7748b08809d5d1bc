"""Train a codec: the same as python -m lic_train."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes; `_main` hands it over unread, as Hydra's options are not ours."""
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="see python -m lic_train --help"
    )


def run(options: argparse.Namespace) -> None:
    """Run ``python -m lic_train`` with these arguments, in this process."""
    from lic_train.__main__ import main

    here = str(Path.cwd())
    if here not in sys.path:  # where python -m finds a codec of one's own; here, after all else
        sys.path.append(here)
    sys.argv = ["lic_train", *options.overrides]
    main()
