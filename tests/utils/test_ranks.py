"""Runs ranks_alone.py in a process of its own: it forks, and threads of other tests do not survive
that, so that a child may wait for ever for one of them."""

from __future__ import annotations

import os
import subprocess
import sys

from helpers.zoo import REPOSITORY


def test_ranks() -> None:
    file = REPOSITORY / "tests" / "helpers" / "ranks_alone.py"
    command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider"]
    command += ["-o", "addopts="]  # which has options of xdist
    alone = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    done = subprocess.run(
        [*command, str(file)],
        env=alone | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
