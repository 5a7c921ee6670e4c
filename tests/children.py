"""Small runs in processes of their own, for the scripts that kill them, start many at once or
fill their disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from dipa import cli, experiments

SETTINGS = {  # a run of a second that writes a checkpoint after each of its 60 steps
    "task.size": 8,
    "solver.iterations": 2,
    "data.train_count": 8,
    "data.test_count": 2,
    "training.steps": 60,
    "training.batch_size": 2,
    "training.checkpoint_every": 1,
}


def prepare(root: Path) -> None:
    """A run in this process: what it imports and reads, every child that is forked from here has
    already.

    Of another size than theirs, so that the cache holds nothing for them.
    """
    settings = SETTINGS | {"task.size": 16, "data.test_count": 1}
    experiments.run(
        experiments.resolve("baseline", "smoke", overrides=settings),
        root / "prepared",
        progress=False,
    )


class Failed(Exception):
    """A difference, in one line."""


class Child:
    """``dipa run`` in a process of its own (forked: see :func:`prepare`), resumed where it is
    unfinished.

    ``first`` is called in it before the run.
    """

    def __init__(
        self, out: Path, settings: dict = SETTINGS, first: Callable[[], object] = lambda: None
    ):
        self.out, self.began = out, time.monotonic()
        self._said, stderr = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            os._exit(self._run(settings, first, stderr))
        os.close(stderr)

    def _run(self, settings: dict, first: Callable[[], object], stderr: int) -> int:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(stderr, 2)
        first()
        pairs = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        return cli.main(
            [
                "run",
                "l-dipa-distilled-r",
                "--profile",
                "smoke",
                "--out",
                str(self.out),
                "--quiet",
                *pairs,
            ]
        )

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
        """Wait for its end: the exit status, minus the signal of a process that was killed.

        ``seconds`` is then how long it lived, ``said`` what it printed on stderr (it fits in a
        pipe).
        """
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.seconds = time.monotonic() - self.began
        with open(self._said, encoding="utf-8") as pipe:
            self.said = pipe.read()
        return status


def contents(out: Path) -> dict[str, str]:
    """What must be the same: configuration, history, metrics, the bytes of the weights."""
    (run,) = experiments.find_runs(out)
    run.verify(sealed=True)
    weights = {
        name: tensor.numpy().tobytes().hex()
        for name, tensor in run.preconditioner().state_dict().items()
    }
    return {
        name: (run.path / name).read_text()
        for name in ("history.jsonl", "metrics.json", "config.yaml")
    } | weights


def compare(out: Path, expected: dict[str, str], what: str) -> None:
    """The one run of ``out`` must be the uninterrupted one, and nothing may lie beside it."""
    found = contents(out)
    if different := [name for name in expected if found.get(name) != expected[name]]:
        raise Failed(f"{what} differs from the uninterrupted run in {', '.join(different)}")
    if left := [path.name for path in out.iterdir() if path.name.startswith(".")]:
        raise Failed(f"{what} left {', '.join(left)}")


def call(capsys, *arguments: str):
    """Exit status, standard output and standard error of one command."""
    try:
        status = cli.main(list(arguments))
    except SystemExit as stop:  # argparse
        status = stop.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err
