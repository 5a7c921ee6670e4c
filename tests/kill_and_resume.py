"""Kill or stop a small run at random moments until it has happened often enough; every finished run must be the same.

    python tests/kill_and_resume.py --kills 30 [--seed 0]

Prints one JSON object: how many kills, how many of them while a file was being written, stops by SIGTERM and SIGINT, runs
finished. Ends with status 1 and the difference where a resumed run is not bitwise the uninterrupted one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import torch

from dipa import cli, experiments

PRESET = "l-dipa-distilled-r"
SETTINGS = {
    "task.size": 8,
    "solver.iterations": 2,
    "data.train_count": 8,
    "data.test_count": 2,
    "training.steps": 60,
    "training.batch_size": 2,
    "training.checkpoint_every": 1,
}
STOPS = {signal.SIGTERM: 143, signal.SIGINT: 130}


def start(out: Path) -> int:
    """Fork a process that does the run, resumed where one is unfinished; returns its number."""
    pid = os.fork()
    if pid:
        return pid
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    pairs = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    status = 1
    try:
        status = cli.main(["run", PRESET, "--profile", "smoke", "--out", str(out), "--quiet", *pairs])
    finally:
        os._exit(status)


def ended(pid: int) -> int | None:
    """The exit status of a process (minus the signal that killed it), None while it runs."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def wait_for_write(pid: int, out: Path, limit: float) -> bool:
    """Look for a half-written file for ``limit`` seconds; whether there is one now."""
    until = time.monotonic() + limit
    while time.monotonic() < until and ended_peek(pid):
        if any(out.rglob("*.partial")):
            return True
    return False


def ended_peek(pid: int) -> bool:
    """Whether the process still runs, without reaping it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def contents(out: Path) -> dict[str, str]:
    """What must be the same, as text: weights and history to the bit, and the metrics."""
    (run,) = experiments.find_runs(out)
    weights = {name: tensor.numpy().tobytes().hex() for name, tensor in run.preconditioner().state_dict().items()}
    return {name: (run.path / name).read_text() for name in ("history.jsonl", "metrics.json", "config.yaml")} | weights


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="SIGKILLs in all (default 30)")
    parser.add_argument("--stops", type=int, default=4, help="SIGTERMs and SIGINTs in all (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    torch.set_num_threads(1)
    root = Path(tempfile.mkdtemp())
    os.environ["DIPA_CACHE"] = str(root / "cache")
    try:
        return torment(root, options.kills, options.stops, random.Random(options.seed))
    finally:
        shutil.rmtree(root)


def torment(root: Path, kills: int, stops: int, draw: random.Random) -> int:
    began = time.monotonic()
    if os.waitpid(start(root / "whole"), 0)[1]:
        print("the uninterrupted run failed", file=sys.stderr)
        return 1
    seconds, expected = time.monotonic() - began, contents(root / "whole")
    counts = {"kills": 0, "while_writing": 0, "SIGTERM": 0, "SIGINT": 0, "finished": 0}
    signals = [signal.SIGKILL] * kills + [draw.choice(list(STOPS)) for _ in range(stops)]
    draw.shuffle(signals)
    out, number = root / "run0", 0
    while True:
        pid = start(out)
        moment = draw.uniform(0, 1.1 * seconds) if signals else None
        writing = False
        if moment is not None:
            until = time.monotonic() + moment
            while time.monotonic() < until and ended_peek(pid):
                time.sleep(0.001)
            writing = draw.random() < 0.6 and wait_for_write(pid, out, 0.5)
        if signals and ended_peek(pid):
            sent = signals.pop()
            os.kill(pid, sent)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            allowed = {-sent, 0} if sent == signal.SIGKILL else {STOPS[sent], 0}
            if status not in allowed:
                print(f"{signal.Signals(sent).name} left exit status {status}", file=sys.stderr)
                return 1
            name = "kills" if sent == signal.SIGKILL else signal.Signals(sent).name
            counts[name] += 1
            counts["while_writing"] += writing and sent == signal.SIGKILL
            continue
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        found = contents(out) if status == 0 else {}
        different = [name for name in expected if found.get(name) != expected[name]]
        if different:
            print(f"exit status {status}; different from the uninterrupted run: {', '.join(different)}", file=sys.stderr)
            return 1
        counts["finished"] += 1
        number += 1
        out = root / f"run{number}"
        if not signals:
            print(json.dumps(counts))
            return 0


if __name__ == "__main__":
    sys.exit(main())
