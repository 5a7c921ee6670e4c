"""Give recorded run folders of older versions what newer ones have: the list of hashes, and what it takes to solve them again.

    python tools/seal.py [--replay] [--again] [--made FOLDER] [FOLDER ...]

Every run below the folders (default: book/results) that has no list gets one, after it was read whole and what was trained
was found to be what its manifest and configuration say; `dipa verify` then finds any later change. The manifest notes under
`sealed` the date and the commit: the hashes are those of that day, not of the day of the run. Sealed runs are left as they
are; with --again they are sealed anew, for folders that were changed on purpose.

With --replay a run without replay.npz is first tested again on its data, with its own P, and must give its own numbers; this
needs its data sets and denoiser. P that was too large to commit is taken from the run of the same name below --made.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dipa import experiments
from dipa.checks import InputError, require
from dipa.experiments import evaluation, methods
from dipa.experiments.config import END_TO_END, UNTRAINED
from dipa.experiments.problem import Problem
from dipa.experiments.provenance import now, provenance
from dipa.experiments.results import Run
from dipa.experiments.writing import save_arrays, seal

RESULTS = Path(__file__).parents[1] / "book" / "results"
NEAR = 5e-3  # dB between the numbers of a run and those of its repeated test


def add_replay(run: Run, made: Path) -> None:
    """Test a run again and write its ``replay.npz``; refused where the numbers are not those of the run."""
    problem = Problem.build(run.config)
    for name in ("train", "test"):
        got, then = getattr(problem, name).sha256, run.manifest["sha256"][name]
        require(name == "train" or got == then, f"{run.path}: {name} images", got, then)
    metrics, _, replay = evaluation.evaluate(problem, _trained(run, problem, made), progress=False)
    for role in ("baseline", "student", "teacher"):
        got, then = metrics[role]["psnr"], run.metrics[role]["psnr"]
        require(abs(got - then) < NEAR, f"{run.path}: {role}", f"{got:.4f} dB", f"{then:.4f} dB, as it was recorded")
    save_arrays(run.path / "replay.npz", replay)


def _trained(run: Run, problem: Problem, made: Path):
    """What a run tested: read, made again from its configuration, or read from the run of this name below ``made``."""
    method, file = run.config.method, run.path / "preconditioner.safetensors"
    if method == "baseline":
        return None
    if method in END_TO_END:
        return run.network()
    if file.is_file():
        return run.preconditioner()
    again = made / run.path.name
    return Run(again).preconditioner() if again.is_dir() else _fixed(run, problem)


def _fixed(run: Run, problem: Problem):
    require(run.config.method in UNTRAINED, f"{run.path}: P", "not there", "a run of this name below --made")
    return methods.MAKERS[run.config.method](problem)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, default=[RESULTS], help="run folders, or folders with such below")
    parser.add_argument("--again", action="store_true", help="also those that have a list")
    parser.add_argument("--replay", action="store_true", help="also add replay.npz where it is missing")
    parser.add_argument("--made", type=Path, default=Path("runs"), help="runs that still hold large trained files")
    options = parser.parse_args()
    by = {"date": now(), "commit": provenance()["commit"]}
    failed = 0
    for folder in (folder for root in options.folders for folder in experiments.run_folders(root, deep=True)):
        try:
            missing = options.replay and not (folder / "replay.npz").is_file()
            if missing:
                add_replay(Run(folder), options.made)
            done = seal(folder, by, again=options.again or missing)
            print(f"{'sealed' if done else 'was sealed'} {folder.name}", flush=True)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr, flush=True)
            failed += 1
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
