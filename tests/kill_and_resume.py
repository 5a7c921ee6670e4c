"""Kill or stop a small run at random moments, again and again; whatever finishes must be the uninterrupted run, bit by bit.

    python tests/kill_and_resume.py --kills 30 [--stops 4] [--seed 0] [--json FILE]

Prints one JSON object: the kills, how many of them came while a file was being written, the stops by SIGTERM and SIGINT,
the runs that finished. Ends with status 1 and one line at the first difference.
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
from collections import Counter
from pathlib import Path

import torch

from dipa import cli, experiments, files
from dipa.experiments.provenance import provenance

SETTINGS = {  # a run of a second that writes a checkpoint after each of its 60 steps
    "task.size": 8,
    "solver.iterations": 2,
    "data.train_count": 8,
    "data.test_count": 2,
    "training.steps": 60,
    "training.batch_size": 2,
    "training.checkpoint_every": 1,
}
STATUS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
WATCH = 0.5  # seconds to look out for a file that is being written


class Failed(Exception):
    """A difference, in one line."""


class Child:
    """The run in a process of its own (forked: torch is imported once), resumed where it is unfinished."""

    def __init__(self, out: Path):
        self.out = out
        self.pid = os.fork()
        if not self.pid:
            os._exit(self._run())

    def _run(self) -> int:
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        pairs = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
        return cli.main(["run", "l-dipa-distilled-r", "--profile", "smoke", "--out", str(self.out), "--quiet", *pairs])

    def running(self) -> bool:
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def watch(self, seconds: float, until=lambda: False) -> bool:
        """Wait so long, or until it ends, or until something is true; whether that is true."""
        last = time.monotonic() + seconds
        while time.monotonic() < last and self.running():
            if until():
                return True
        return False

    def writing(self) -> bool:
        return any(self.out.rglob("*.partial"))

    def status(self) -> int:
        """The exit status, minus the signal of a process that was killed."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def contents(out: Path) -> dict[str, str]:
    """What must be the same: configuration, history, metrics, the bytes of the weights."""
    (run,) = experiments.find_runs(out)
    weights = {name: tensor.numpy().tobytes().hex() for name, tensor in run.preconditioner().state_dict().items()}
    return {name: (run.path / name).read_text() for name in ("history.jsonl", "metrics.json", "config.yaml")} | weights


def interrupt(child: Child, sent: signal.Signals, moment: float, aimed: bool) -> Counter:
    """Send a signal after ``moment`` seconds, or (aimed) while a file is being written; what happened."""
    child.watch(moment)
    writing = aimed and child.watch(WATCH, child.writing)
    if child.running():
        os.kill(child.pid, sent)
    status = child.status()
    if status not in (0, STATUS[sent]):
        raise Failed(f"{sent.name} left exit status {status}")
    return Counter({sent.name: status != 0, f"{sent.name} while writing": writing and status != 0})


def finish(out: Path, expected: dict[str, str]) -> None:
    """Let the run end and compare it."""
    if status := Child(out).status():
        raise Failed(f"a resumed run left exit status {status}")
    found = contents(out)
    if different := [name for name in expected if found.get(name) != expected[name]]:
        raise Failed(f"a resumed run differs from the uninterrupted one in {', '.join(different)}")


def torment(root: Path, kills: int, stops: int, draw: random.Random) -> Counter:
    """Runs with one to four interruptions each, until there were as many as asked for."""
    began, counts = time.monotonic(), Counter()
    finish(root / "whole", {})
    expected, seconds = contents(root / "whole"), time.monotonic() - began
    signals = [signal.SIGKILL] * kills + [(signal.SIGTERM, signal.SIGINT)[i % 2] for i in range(stops)]
    draw.shuffle(signals)
    while signals:
        out = root / f"run{counts['finished']}"
        for sent in signals[: draw.randint(1, 4)]:
            found = interrupt(Child(out), sent, draw.uniform(0, seconds), aimed=draw.random() < 0.5)
            signals = signals[1:] if found[sent.name] else signals  # it had ended before: another time
            counts += found
        finish(out, expected)
        counts["finished"] += 1
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="kills (default 30)")
    parser.add_argument("--stops", type=int, default=4, help="SIGTERMs and SIGINTs, in turn (default 4)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", help="a file to write the counts to, with provenance")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as root:
        os.environ["DIPA_CACHE"] = str(Path(root) / "cache")
        try:
            counts = torment(Path(root), options.kills, options.stops, random.Random(options.seed))
        except Failed as failure:
            print(failure, file=sys.stderr)
            return 1
    print(json.dumps(counts))
    if options.json:
        files.write_json(options.json, {**counts, "manifest": provenance()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
