"""Let the disk fail, or a kill come, at each write of a small run in turn: nothing is lost, and the
same command then finishes.

    python tests/disk_faults.py [--every 1]

The faults: a file, folder or rename that is refused; a disk that is full in the middle of a file
and stays so; a file that cannot be flushed; SIGKILL just before a write or a removal. Prints one
JSON object: the faults of each kind. Ends with status 1 and one line at the first that is not told
in one line and by exit status 1 or 2 (beside one warning of the cache, after which a run goes on),
that loses a checkpoint or shows a run that is not whole, or that the same command does not mend.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import resource
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

import torch
from children import SETTINGS, Child, Failed, compare, contents, prepare

from dipa import experiments

SMALL = SETTINGS | {"training.steps": 3}
KINDS = ("refused", "full", "not flushed", "killed")
REMOVALS = ("os.remove", "os.rmdir")
CHANGES = ("open", "os.mkdir", "os.rename")
FULL = 10  # bytes of a file that still fit
WARNING = re.compile(r"^warning: cache: .*\n", re.MULTILINE)


class Disk:
    """The disk under ``out`` fails at the write number ``fails`` in the way ``kind``; to be
    installed in a process of its own.

    At the fault the file ``note`` is written: in it whether there was a checkpoint.
    """

    def __init__(self, out: Path, kind: str, fails: int, note: Path):
        self.out, self.kind, self.fails, self.note, self.writes = out, kind, fails, note, 0

    def install(self) -> None:
        """Listen to every open, mkdir, rename, removal and flush from now on."""
        flush = os.fsync
        os.fsync = lambda number: (self._count("not flushed"), flush(number))[1]
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple) -> None:
        if event not in CHANGES + REMOVALS or not self._inside(arguments):
            return
        opened = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if opened or event != "open":
            self._count("killed")
            self._count("refused" if event in CHANGES else "")
        if opened and arguments[2] & os.O_TRUNC:
            self._count("full")

    def _inside(self, arguments: tuple) -> bool:
        """Whether a path is under ``out``; a removal inside a folder names the open folder and
        the entry alone.
        """
        folder = arguments[-1] if isinstance(arguments[-1], int) and arguments[-1] > 2 else None
        base = (
            os.readlink(f"/proc/self/fd/{folder}")
            if folder and not os.path.isabs(str(arguments[0]))
            else ""
        )
        return os.path.join(base, str(arguments[0])).startswith(str(self.out))

    def _count(self, kind: str) -> None:
        self.writes += kind == self.kind
        if kind != self.kind or self.writes != self.fails:
            return
        self.note.write_text(json.dumps(any(self.out.glob(".*.working/checkpoint.pt"))))
        if kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind != "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, resource.RLIM_INFINITY))


def fail(root: Path, kind: str, number: int, expected: dict[str, str]) -> bool:
    """One fault and the same command again; whether there was a fault at all."""
    out, note, what = (
        root / f"{kind} {number}",
        root / f"note {kind} {number}",
        f"{kind}, write {number}",
    )
    child = Child(out, SMALL, first=Disk(out, kind, number, note).install)
    status, made = child.status(), experiments.find_runs(out)
    said, warnings = WARNING.subn("", child.said)
    if warnings > 1 or (status, said.count("\n")) not in (
        (0, 0),
        (1, 1),
        (2, 1),
        (-signal.SIGKILL, 0),
    ):
        raise Failed(f"{what}: exit status {status}, said {child.said!r}")
    if status > 0 and made:
        raise Failed(f"{what}: failed, and shows a run")
    if (
        status
        and not made
        and json.loads(note.read_text())
        and not any(out.glob(".*.working/checkpoint.pt"))
    ):
        raise Failed(f"{what}: the checkpoint is lost")
    if Child(out, SMALL).status():
        raise Failed(f"{what}: the same command does not finish")
    compare(out, expected, what)
    return note.exists()


def torment(root: Path, every: int) -> Counter:
    """Every fault of each kind, or one in ``every``."""
    prepare(root)
    if Child(root / "whole", SMALL).status():
        raise Failed("a run on a good disk failed")
    expected, counts = contents(root / "whole"), Counter()
    for kind in KINDS:
        number = 1
        while fail(root, kind, number, expected):
            counts[kind] += 1
            number += every
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--every", type=int, default=1, help="only one fault in so many (default 1: all)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as root:
        os.environ["DIPA_CACHE"] = str(Path(root) / "cache")
        try:
            counts = torment(Path(root), options.every)
        except Failed as failure:
            print(failure, file=sys.stderr)
            return 1
    print(json.dumps(counts | {"faults": counts.total()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
