"""Start one small run in many processes at once: each must end well, one makes the run, nothing is
left beside it.

    python tests/at_once.py --processes 20 [--kills 0 5] [--seed 0]

With ``--kills`` so many of the processes are killed at random moments; the others must finish the
run all the same. Each number given is a round of its own. Prints one JSON object a round: the
processes, how many were killed, how many said that they wait. Ends with status 1 and one line at
the first difference.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch
from children import SETTINGS, Child, Failed, compare, contents, prepare

from dipa import experiments

SMALL = SETTINGS | {"training.steps": 10}


def start(
    root: Path, processes: int, kills: int, draw: random.Random, seconds: float
) -> tuple[list[Child], int]:
    """The processes after their end, those that were killed first, and how many these are."""
    children = [Child(root / "runs", SMALL) for _ in range(processes)]
    for child in children[:kills]:
        time.sleep(draw.uniform(0, seconds / kills))
        if child.running():
            os.kill(child.pid, signal.SIGKILL)
    statuses = [child.status() for child in children]
    if not set(statuses[:kills]) <= {0, -signal.SIGKILL} or any(statuses[kills:]):
        raise Failed(f"exit statuses {statuses}")
    return children, statuses.count(-signal.SIGKILL)


def torment(root: Path, processes: int, kills: int, draw: random.Random) -> dict[str, int]:
    """All at once in an empty folder, then what they made of it."""
    alone = Child(root / "alone", SMALL)
    if status := alone.status():
        raise Failed(f"exit status {status}")
    children, killed = start(root, processes, kills, draw, alone.seconds)
    compare(root / "runs", contents(root / "alone"), "what many processes made")
    (run,) = experiments.find_runs(root / "runs")
    if run.manifest["attempts"] > 1 + killed:
        raise Failed(f"{run.manifest['attempts']} attempts at one run")
    said = [line for child in children for line in child.said.splitlines()]
    if other := [
        line
        for line in said
        if not line.startswith(f"waiting: another process makes {run.path.name}")
    ]:
        raise Failed(f"a process said: {other[0]}")
    return {"processes": processes, "killed": killed, "waited": len(said)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=20, help="processes at once (default 20)")
    parser.add_argument(
        "--kills",
        type=int,
        nargs="+",
        default=[0],
        help="how many are killed, round by round (default 0)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as root:
        os.environ["DIPA_CACHE"] = str(Path(root) / "cache")
        try:
            prepare(Path(root))
            for number, kills in enumerate(options.kills):
                found = torment(
                    Path(root) / str(number), options.processes, kills, random.Random(options.seed)
                )
                print(json.dumps(found), flush=True)
        except Failed as failure:
            print(failure, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
