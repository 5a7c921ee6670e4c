"""Kill or stop a small run at random moments, again and again; whatever finishes must be the
uninterrupted run, bit by bit.

    python tests/kill_and_resume.py --kills 30 [--stops 4] [--seed 0] [--json FILE]

Prints one JSON object: the kills, how many of them came while a file was being written, the stops
by SIGTERM and SIGINT, the runs that finished, the seconds that all attempts took and those that the
manifests report. Ends with status 1 and one line at the first difference, at anything left beside a
finished run, and where the manifests miss more of the time than it takes to begin.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch
from children import Child, Failed, compare, contents, prepare

from dipa import experiments, files
from dipa.experiments.manifest import provenance
from dipa.experiments.working import Clock

STATUS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
WATCH = 0.5  # seconds to look out for a file that is being written
EVERY = 0.05  # seconds between two notes of the time, so that a kill loses little more
SLACK = 0.5  # seconds that a busy machine may be late with them


def interrupt(child: Child, sent: signal.Signals, moment: float, aimed: bool) -> Counter:
    """Send a signal after ``moment`` seconds, or (aimed) while a file is being written; what
    happened.
    """
    child.watch(moment)
    writing = aimed and child.watch(WATCH, child.writing)
    if child.running():
        os.kill(child.pid, sent)
    status = child.status()
    if status not in (0, STATUS[sent]):
        raise Failed(f"{sent.name} left exit status {status}: {child.said!r}")
    return Counter({sent.name: status != 0, f"{sent.name} while writing": writing and status != 0})


def finish(out: Path, expected: dict[str, str]) -> float:
    """Let the run end and compare it; the seconds that this attempt took."""
    child = Child(out)
    if status := child.status():
        raise Failed(f"a resumed run left exit status {status}")
    compare(out, expected, "a resumed run")
    return child.seconds


def reported(out: Path, took: float, beginnings: int, beginning: float) -> float:
    """The seconds in the manifest: of all attempts, but for what passes before each begins to
    count.
    """
    (run,) = experiments.find_runs(out)
    seconds, training = run.manifest["seconds"], run.manifest["training_seconds"]
    if not took - beginnings * (2 * beginning + SLACK) <= seconds <= took:
        raise Failed(f"a run of {took:.2f} s in {beginnings} attempts reports {seconds:.2f} s")
    if not 0 < training < seconds:
        raise Failed(f"a run of {seconds:.2f} s reports {training:.2f} s of training")
    return seconds


def torment(root: Path, kills: int, stops: int, draw: random.Random) -> Counter:
    """Runs with one to four interruptions each, until there were as many as asked for."""
    counts, totals = Counter(), Counter()
    prepare(root)
    seconds = finish(root / "warm", {})  # fills the cache
    seconds = finish(root / "whole", {})
    expected = contents(root / "whole")
    beginning = seconds - reported(root / "whole", seconds, 1, seconds)
    signals = [signal.SIGKILL] * kills + [
        (signal.SIGTERM, signal.SIGINT)[i % 2] for i in range(stops)
    ]
    draw.shuffle(signals)
    while signals:
        out, children = root / f"run{counts['finished']}", []
        for sent in signals[: draw.randint(1, 4)]:
            children.append(Child(out))
            found = interrupt(
                children[-1], sent, draw.uniform(0, seconds), aimed=draw.random() < 0.5
            )
            # it had ended before: another time
            signals = signals[1:] if found[sent.name] else signals
            counts += found
        took = sum(child.seconds for child in children) + finish(out, expected)
        totals += Counter(
            {"seconds": took, "seconds reported": reported(out, took, len(children) + 1, beginning)}
        )
        counts["finished"] += 1
    return counts + Counter({name: round(value, 2) for name, value in totals.items()})


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="kills (default 30)")
    parser.add_argument(
        "--stops", type=int, default=4, help="SIGTERMs and SIGINTs, in turn (default 4)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--json", help="a file to write the counts to, with provenance")
    options = parser.parse_args()
    torch.set_num_threads(1)
    Clock.EVERY = EVERY
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
