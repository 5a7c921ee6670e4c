"""Break the package on purpose, one small change at a time, and see whether the tests notice.

    python scripts/mutants.py [--only TEXT] [--workers 2] [--json FILE]

scripts/mutants.yaml lists the changes by file: the exact text to find, what replaces it, what that
breaks, and the tests that should fail. Each change is made in a copy of the package in a temporary
folder; the checkout is never touched, so that several of these may run at once. The named tests
first run on the unchanged copy and must pass there.

A change is ``killed`` when a test fails (or runs ten times as long as it should), and has
``survived`` when all pass. The exit status is 1 where the list does not fit the code, the unchanged
tests fail, or less than 95 % are killed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import multiprocessing
import os
import queue
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
# what the tests named in the list read
COPIED = ("dipa", "tests", "scripts", "benchmarks", "pyproject.toml")
LEAST = 0.95  # share to be killed
# a test is stopped after so many times its own seconds, and so many seconds more
PATIENCE = (10, 60)
# added to pytest's exit statuses, so that a process that dies is not taken for a test that fails
MOVED = 100
PASSED, FAILED = MOVED, MOVED + 1  # any other status says that the tests did not run

FRESH = multiprocessing.get_context("forkserver")
FRESH.set_forkserver_preload(["deepinv", "pytest", "skimage"])  # never the package itself


class Unfit(Exception):
    """The list, or the unchanged code, is not what the tool can work with."""


@dataclass(frozen=True)
class Mutant:
    """One change: in ``file``, ``find`` becomes ``replace``; what it ``breaks``, and the ``tests``
    that should fail.

    Of these only those that ``match`` (pytest's ``-k``) are run, where that is given.
    """

    file: str
    find: str
    replace: str
    breaks: str
    tests: tuple[str, ...]
    match: str = ""

    def source(self, root: Path) -> str:
        """The text of the changed file; :class:`Unfit` where ``find`` is not there exactly once
        or the result is no Python.
        """
        path = root / self.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if text.count(self.find) != 1:
            raise Unfit(
                f"{self.file}: {self.find!r} is there {text.count(self.find)} times, not "
                f"once ({self.breaks})"
            )
        changed = text.replace(self.find, self.replace)
        try:
            ast.parse(changed)
        except SyntaxError as error:
            raise Unfit(
                f"{self.file}: {self.replace!r} is no Python there ({self.breaks})"
            ) from error
        return changed


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: ``killed``, ``survived`` or ``did not run``, in how many seconds."""

    mutant: Mutant
    state: str
    seconds: float


def read(path: Path) -> list[Mutant]:
    """The mutants of a list, in its order; those of a file share its tests unless they name
    their own.
    """
    table = yaml.safe_load(path.read_text(encoding="utf-8"))
    mutants = []
    for file, group in table.items():
        for entry in group["mutants"]:
            shared = {"file": file, "tests": tuple(entry.get("tests", group["tests"]))}
            mutants.append(
                Mutant(
                    **{key: str(value) for key, value in entry.items() if key != "tests"} | shared
                )
            )
    return mutants


def stale(mutants: Iterable[Mutant], root: Path) -> list[str]:
    """A line for each mutant that no longer fits the code under ``root``."""
    lines = []
    for mutant in mutants:
        try:
            mutant.source(root)
        except Unfit as error:
            lines.append(str(error))
    return lines


def copy(root: Path, folder: Path) -> Path:
    """A copy of what the tests read, without compiled files: an older one could be taken for
    the changed source.
    """
    for name in COPIED:
        if (root / name).is_dir():
            shutil.copytree(
                root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        elif (root / name).is_file():
            shutil.copy(root / name, folder / name)
    return folder


def run_tests(
    folder: Path, tests: Iterable[str], match: str = "", seconds: float | None = None
) -> int | None:
    """Exit status of pytest on ``tests`` in a copy, stopped at the first failure; None where it
    took too long.

    In a process of its own, forked from one that holds the libraries already: importing them takes
    longer than most tests.
    """
    process = FRESH.Process(
        target=_pytest, args=(str(folder), ["-k", match, *(f"tests/{name}" for name in tests)])
    )
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None
    return process.exitcode


def _pytest(folder: str, arguments: list[str]) -> None:
    """Run pytest with the package of ``folder``, without output and without compiled files, and
    exit with its status.
    """
    import pytest

    os.chdir(folder)
    os.environ |= {
        "PYTHONPATH": folder,
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    sys.dont_write_bytecode = True
    sys.path.insert(0, folder)
    with (
        open(os.devnull, "w") as nothing,
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", *arguments])
    sys.exit(MOVED + int(status))


def try_one(mutant: Mutant, folder: Path, seconds: float) -> Outcome:
    """Make the change in the copy ``folder``, run its tests, take the change back."""
    path, began = folder / mutant.file, time.monotonic()
    original = path.read_text(encoding="utf-8")
    path.write_text(mutant.source(folder), encoding="utf-8")
    try:
        status = run_tests(folder, mutant.tests, mutant.match, seconds)
    finally:
        path.write_text(original, encoding="utf-8")
    states = {PASSED: "survived", FAILED: "killed", None: "killed"}
    return Outcome(mutant, states.get(status, "did not run"), round(time.monotonic() - began, 1))


def baseline(mutants: Iterable[Mutant], folder: Path) -> dict[tuple[str, ...], float]:
    """Seconds of every set of tests on the unchanged copy; :class:`Unfit` where one does not
    pass.
    """
    seconds = {}
    for tests in dict.fromkeys(mutant.tests for mutant in mutants):
        began = time.monotonic()
        status = run_tests(folder, tests)
        if status != PASSED:
            raise Unfit(
                f"the unchanged code: pytest {' '.join(tests)} ends with status "
                f"{status - MOVED}; mend that first"
            )
        seconds[tests] = time.monotonic() - began
        print(f"unchanged   {seconds[tests]:6.1f} s  {' '.join(tests)}", flush=True)
    return seconds


def try_all(mutants: list[Mutant], root: Path, workers: int) -> list[Outcome]:
    """Every mutant in one of ``workers`` copies, in the order of the list; a line is printed as
    each is done.
    """
    with (
        tempfile.TemporaryDirectory(prefix="mutants-") as folder,
        ThreadPoolExecutor(workers) as pool,
    ):
        copies: queue.Queue[Path] = queue.Queue()
        for number in range(workers):
            copies.put(copy(root, Path(folder) / str(number)))
        times, patience = baseline(mutants, Path(folder) / "0"), PATIENCE

        def work(mutant: Mutant) -> Outcome:
            checkout = copies.get()
            try:
                outcome = try_one(mutant, checkout, patience[0] * times[mutant.tests] + patience[1])
            finally:
                copies.put(checkout)
            print(
                f"{outcome.state:11} {outcome.seconds:6.1f} s  {mutant.file}: {mutant.breaks}",
                flush=True,
            )
            return outcome

        return list(pool.map(work, mutants))


def summary(outcomes: list[Outcome]) -> tuple[str, float]:
    """Killed of all, by folder of the package and in sum; and the share killed."""
    lines = []
    for part in [*dict.fromkeys(_part(outcome) for outcome in outcomes), ""]:
        counted = [outcome for outcome in outcomes if part in ("", _part(outcome))]
        killed = sum(outcome.state == "killed" for outcome in counted)
        lines.append(
            f"{part or 'all':24} {killed:3d} of {len(counted):3d} killed  "
            f"{sum(outcome.seconds for outcome in counted):7.0f} s"
        )
    return "\n".join(lines), killed / len(outcomes)


def _part(outcome: Outcome) -> str:
    """The folder of the package, or the module directly in it."""
    return "/".join(outcome.mutant.file.split("/")[:2])


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only",
        default="",
        metavar="TEXT",
        help="only mutants with this text in file, find or what it breaks",
    )
    parser.add_argument("--workers", type=int, default=2, help="mutants at a time (default 2)")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write every outcome to this file"
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout (default: this one)")
    parser.add_argument(
        "--list",
        type=Path,
        default=None,
        metavar="FILE",
        help="the list (default: its scripts/mutants.yaml)",
    )
    options = parser.parse_args(argv)
    listed = read(options.list or options.root / "scripts" / "mutants.yaml")
    chosen = [
        mutant
        for mutant in listed
        if options.only in f"{mutant.file} {mutant.find} {mutant.breaks}"
    ]
    try:
        if misfits := stale(listed, options.root):
            raise Unfit("the list does not fit the code:\n" + "\n".join(misfits))
        if not chosen:
            raise Unfit(f"--only {options.only}: no mutant has that text")
        outcomes = try_all(chosen, options.root, max(options.workers, 1))
    except Unfit as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json:
        options.json.write_text(
            json.dumps([asdict(outcome) for outcome in outcomes], indent=1), encoding="utf-8"
        )
    table, share = summary(outcomes)
    print(f"\n{table}\n{100 * share:.1f} % killed, {100 * LEAST:.0f} % wanted")
    return 0 if share >= LEAST else 1


if __name__ == "__main__":
    sys.exit(main())
