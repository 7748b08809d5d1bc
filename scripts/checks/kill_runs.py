"""Kill training runs with SIGKILL at random moments and compare their ends with uninterrupted ones.

    python scripts/checks/kill_runs.py --out DIR                  # 20 kills, the three in turn
    python scripts/checks/kill_runs.py --out DIR --kills 3 --only rnn

Three tiny runs: the joint prior in two processes (gloo), EDIC in one, the RNN with its stochastic
binarizer. Each killed run is started again by the same command until it finishes, and must then
have the uninterrupted run's weights (sha256), the loss of every batch, every validation, and the
RD rows (without their seconds). Of two processes either one or both are killed. Exit code 1 if any
differs.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: processes with threads must not fork

import torch
from safetensors.torch import load_file

from lic_train import __main__ as train
from lic_train.rd.points import read_csv

STEPS = 30
MEASURED = ("speed/", "memory/")
"""Columns of the log that say how the machine did, not the run."""
COMMON = [
    *("data.batch_size=2", "data.train.limit=3", "data.eval.limit=2", "data.eval.longest_side=64"),
    *("data.crop_size=64", "data.eval_crop=64", "evaluation.save_images=0"),
    *(f"trainer.max_steps={STEPS}", "trainer.val_check_interval=10", "trainer.accelerator=cpu"),
    *("trainer.log_every_n_steps=1", "callbacks.checkpoint.every_n_steps=4", "logger=csv"),
]
RUNS = {
    "joint_prior, 2 ranks": [
        *("experiment=joint_prior", "model.N=8", "model.M=16"),
        *("trainer=ddp", "trainer.devices=2"),
    ],
    "edic": [
        *("experiment=edic_gmm", "model.N=8", "model.M=16"),
        *("model.enhancement_channels=4", "callbacks=ema"),
    ],
    "rnn": ["model=rnn", "model.width=16", "model.iterations=3", "loss.metric=l2", "lmbda=1"],
}


def start(name: str, run: Path) -> int:
    """A life of a run, as the leader of a process group of its own.

    Ranks need the real command, as Lightning starts it again for each. One process is forked off
    this one, where imports are done: seconds less in each life.
    """
    command = [
        sys.executable,
        "-P",
        "-m",
        "lic_train",
        *RUNS[name],
        *COMMON,
        f"hydra.run.dir={run}",
    ]
    if pid := os.fork():
        return pid
    os.setsid()
    log = os.open(f"{run}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        if "trainer=ddp" in command:
            os.execv(command[0], command)
        sys.argv = command[2:]
        train.main()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def finish(name: str, run: Path) -> str:
    """Start a run and wait for its end; what went wrong with it, if anything."""
    code = os.waitstatus_to_exitcode(os.waitpid(start(name, run), 0)[1])
    return f"ended with {code}, see {run}.log" if code else ""


def kill(name: str, run: Path, draw: random.Random) -> str:
    """Start a run, kill it after a random batch, and wait until nobody of it is left."""
    step, pid = draw.randrange(1, STEPS), start(name, run)
    while (logged := len(losses(run))) < step and os.waitpid(pid, os.WNOHANG)[0] == 0:
        time.sleep(0.02)
    time.sleep(draw.random() * 0.1)  # any moment of a batch, of a checkpoint, of a validation
    victim = draw.choice(["all", "first", "second"]) if "2 ranks" in name else "all"
    second = children(pid)[:1] if victim == "second" else []
    if victim == "all":
        os.killpg(pid, signal.SIGKILL)
    else:
        os.kill(second[0] if second else pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for _ in range(600):  # the others notice by themselves
        if not group_lives(pid):
            return f"{logged}" + (f" ({victim})" if "2 ranks" in name else "")
        time.sleep(0.1)
    os.killpg(pid, signal.SIGKILL)
    return f"{logged} ({victim}, others hung)"


def children(pid: int) -> list[int]:
    """Python processes that this one started."""
    found = subprocess.run(["pgrep", "-P", str(pid), "-f", "lic_train"], capture_output=True)
    return [int(line) for line in found.stdout.split()]


def group_lives(pid: int) -> bool:
    """Whether any process of the group is there that is no zombie."""
    found = subprocess.run(["ps", "-o", "stat=", "-g", str(pid)], capture_output=True, text=True)
    return any(not line.startswith("Z") for line in found.stdout.split())


def losses(run: Path) -> list[tuple[str, str]]:
    """Batch and loss of every row of the log."""
    try:
        with (run / "logs/version_0/metrics.csv").open(newline="") as file:
            rows = [(row["step"], row.get("train/loss", "")) for row in csv.DictReader(file)]
    except OSError:
        return []
    return [row for row in rows if row[1]]


def outcome(run: Path) -> dict[str, Any]:
    """What must not differ, as hashes or rows."""
    exported = load_file(run / "model.safetensors")
    last = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    points = read_csv(run / "rd_points.csv")
    rows = [(p.image, p.codec, p.rate, p.bytes, p.bpp_estimated, p.psnr) for p in points]
    with (run / "logs/version_0/metrics.csv").open(newline="") as file:
        log = [
            {k: v for k, v in row.items() if not k.startswith(MEASURED)}
            for row in csv.DictReader(file)
        ]
    return {
        "weights": _digest(exported),
        "state": _digest(last["state_dict"]),
        "losses": losses(run),
        "log": log,
        "rows": rows,
        "files": [(f.name, f.read_bytes()) for f in sorted((run / "bitstreams").iterdir())],
    }


def _digest(tensors: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def main() -> None:
    """Run all, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--kills", type=int, default=20, help="in all")
    parser.add_argument("--per-run", type=int, default=1, help="kills of one run before its end")
    parser.add_argument("--only", choices=[*RUNS], help="one kind of run")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    names, draw = [options.only] if options.only else [*RUNS], random.Random(options.seed)
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    same, began = 0, time.monotonic()
    print(f"{'run':<22}{'killed after batch':<36}{'sha256 of weights':<20}end")
    for i, name in enumerate(names):
        uninterrupted = options.out / f"{i}_uninterrupted"
        if fault := finish(name, uninterrupted):
            sys.exit(f"{name}, uninterrupted, {fault}")
        expected = outcome(uninterrupted)
        assert [int(step) for step, _ in expected["losses"]] == list(range(STEPS))
        print(f"{name:<22}{'-':<36}{expected['weights'][:16]:<20}", flush=True)
        kills = options.kills * (i + 1) // len(names) - options.kills * i // len(names)
        while kills:
            now = min(kills, options.per_run)
            run = options.out / f"{i}_{kills}"
            killed = [kill(name, run, draw) for _ in range(now)]
            kills -= now
            end, found = finish(name, run), {"weights": ""}
            if not end:
                found = outcome(run)
                differ = [key for key in expected if found[key] != expected[key]]
                end = f"differs: {', '.join(differ)}" if differ else "identical"
            same += now if end == "identical" else 0
            print(f"{name:<22}{', '.join(killed):<36}{found['weights'][:16]:<20}{end}", flush=True)
    took = f"{(time.monotonic() - began) / 60:.0f} minutes"
    print(f"{same} of {options.kills} kills without a trace, in {took}")
    sys.exit(same != options.kills)


if __name__ == "__main__":
    main()
