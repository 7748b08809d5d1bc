"""A sweep is started by one command, may be killed at any time and is resumed by the same command.

Every point is a separate process, so that no failure of one can end the others. Finished points are
skipped, broken ones resume from their checkpoints, and failed ones are tried again.
"""

from __future__ import annotations

import shlex
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from lic_train.errors import LicError
from lic_train.sweep.plan import Plan, Point, enter, plan
from lic_train.sweep.state import CHECKPOINT, FINISHED, Status, hold, points_of, status


def main(arguments: Any) -> int:
    """Run the sweep that Hydra's parsed command line describes.

    Args:
        arguments: with ``overrides``, ``config_dir`` and ``config_name``.

    Returns:
        The exit code: 0 if all points are finished and reported, 1 if not, and 128 plus the number
        of the signal if the sweep was stopped by one.

    Raises:
        SweepError: the sweep cannot be planned or started, or another process is running it.
        HydraException, OmegaConfBaseException, LicError: as ``plan``.
    """
    folder = arguments.config_dir
    flags = ["--config-name", arguments.config_name] if arguments.config_name else []
    overrides = list(arguments.overrides)
    if folder:
        overrides.append(f"hydra.searchpath=['file://{Path(folder).resolve()}']")
    planned = plan(overrides, flags, arguments.config_name or "train")
    launcher = planned.launcher
    with hold(planned.directory):
        enter(planned)
        before = signal.signal(signal.SIGTERM, _terminated)
        try:
            run(planned)
        except (KeyboardInterrupt, _Terminated) as stop:
            launcher.stop()
            print(f"sweep stopped: {launcher.on_stop}; the same command resumes "
                  f"{planned.directory}", file=sys.stderr)  # fmt: skip
            return 128 + (signal.SIGTERM if isinstance(stop, _Terminated) else signal.SIGINT)
        except BaseException:
            launcher.stop()
            raise
        finally:
            signal.signal(signal.SIGTERM, before)
        return conclude(planned)


def run(planned: Plan) -> None:
    """Run all unfinished points until they end, those of a chain after the first of the chain.

    Args:
        planned: the sweep, entered in its directory.

    Raises:
        SweepError: the launcher cannot start a point.
    """
    launcher = planned.launcher
    done = {p.label: status(p.directory).state == FINISHED for p in planned.points}
    waiting = [p for p in planned.points if not done[p.label]]
    skipped = len(planned.points) - len(waiting)
    say(f"sweep  {len(planned.points)} points, {skipped} of them finished, in {planned.directory}")
    running: list[Point] = []
    width = max(len(p.label) for p in planned.points)
    while waiting or running:
        living = [p for p in waiting if launcher.alive(p.directory)]  # they have their room already
        for point in [*living, *(p for p in waiting if p not in living)]:
            if point.start is not None and not done[point.start]:
                if not any(p.label == point.start for p in (*waiting, *running)):
                    waiting.remove(point)
                    say(f"{point.label:{width}}  not begun: {point.start} has no weights")
                continue
            if point not in living:
                if not launcher.room(len(running)):
                    continue
                launcher.start(point.directory)
            goes_on = (point.directory / CHECKPOINT).is_file()
            word = "runs already" if point in living else "resumes" if goes_on else "begins"
            say(f"{point.label:{width}}  {word}")
            waiting.remove(point)
            running.append(point)
        time.sleep(launcher.poll_s)
        for point in list(running):
            if not launcher.alive(point.directory):
                running.remove(point)
                end = status(point.directory)
                done[point.label] = end.state == FINISHED
                say(f"{point.label:{width}}  {_describe(end)}")


def conclude(planned: Plan) -> int:
    """Write the tables and report of the finished points, and print a line about the others.

    Args:
        planned: the sweep, entered in its directory.

    Returns:
        The exit code: 0 if all points are finished and reported, else 1.
    """
    ends = [status(p.directory) for p in planned.points]
    others = [f"{end.label} {_describe(end)}" for end in ends if end.state != FINISHED]
    fault = _report(planned.directory, others)
    count = f"{len(ends) - len(others)} of {len(ends)} points finished"
    sys.stdout.flush()
    if others or fault:
        which = f", not so {'; '.join(others)}" if others else ""
        again = "the same command tries again"
        print(f"sweep  {count}{which}{fault}; {again}: {planned.directory}", file=sys.stderr)
        return 1
    if line := _sync_line(planned.directory):
        print(f"W&B    {line}")
    print(f"sweep  {count}: {planned.directory}")
    return 0


def _sync_line(directory: Path) -> str:
    """The command that uploads what the points kept for W&B offline; "" without any."""
    if not next(directory.glob("*/wandb/offline-run-*"), None):
        return ""
    return f"wandb sync {shlex.quote(str(directory))}/*/wandb/offline-run-*"


def _report(directory: Path, others: list[str]) -> str:
    """Summarize what is finished, also by earlier commands; words for the last line if it failed.

    Whatever goes wrong in it, the last line is about the points.
    """
    from lic_train.sweep.summary import summarize

    done = [p for p in points_of(directory) if status(p).state == FINISHED]
    if not done:
        return ""
    try:
        say(f"report {summarize(directory, done, others)}")
    except (LicError, OSError) as error:
        return f", no report ({error})"
    except Exception as error:
        traceback.print_exc()
        return f", no report ({type(error).__name__})"
    return ""


def say(line: str) -> None:
    """Print a line at once, even to a file or a pipe."""
    print(line, flush=True)


def _describe(end: Status) -> str:
    if end.state == FINISHED and end.bpp is not None and end.psnr is not None:
        return f"finished  {end.bpp:.3f} bpp  {end.psnr:.2f} dB"
    return f"{end.state} ({end.why})" if end.why else end.state


class _Terminated(BaseException):
    """SIGTERM: the machine wants to be left."""


def _terminated(*_: Any) -> None:
    raise _Terminated
