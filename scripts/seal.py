"""Give recorded run folders of older versions what newer ones have: the list of hashes, and what it
takes to solve them again.

    python scripts/seal.py [--replay] [--again] [--made FOLDER] [FOLDER ...]

Every run below the folders (default: book/results) that has no list gets one, after it was read
whole and what was trained was found to be what its manifest and configuration say; `dipa verify`
then finds any later change. The manifest notes under `sealed` the date and the commit: the hashes
are those of that day, not of the day of the run. Sealed runs are left as they are; with --again
they are sealed anew, for folders that were changed on purpose.

With --replay a run without replay.npz is first solved again on its stored images, with its own P,
and must give the stored reconstructions; this needs its denoiser. P that was too large to commit is
taken from the run of that name below --made.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from dipa import data, experiments
from dipa.checks import InputError, require
from dipa.experiments import replay
from dipa.experiments.manifest import now, provenance
from dipa.experiments.problem import Problem, make_solver, operators
from dipa.experiments.results import Run
from dipa.experiments.writing import save_arrays, seal

RESULTS = Path(__file__).parents[1] / "book" / "results"
NEAR = 2e-3  # between a stored pixel and the same solved again


def add_replay(run: Run, runs: Path) -> None:
    """Solve a run again on its stored images and write its ``replay.npz``; refused where other
    images come out.
    """
    student, teacher = operators(run.config)
    stored = data.ImageSet(torch.from_numpy(run.examples["truth"]), "stored", "test")
    problem = Problem(run.config, student, teacher, stored, stored, make_solver(run.config.solver))
    trained = _trained(run, problem, runs)
    x = replay.solve(problem, stored.images, problem.solver.prior.denoiser, trained)
    then = torch.from_numpy(run.examples["baseline" if trained is None else "student"])
    require(
        float((x - then).abs().max()) < NEAR,
        f"{run.path}: student",
        "other images",
        "those that were stored",
    )
    save_arrays(run.path / "replay.npz", replay.record(problem, trained, {}))


def _trained(run: Run, problem: Problem, runs: Path):
    """What a run tested: read, made again from its configuration, or read from the run of this
    name below ``runs``.
    """
    if (run.path / "preconditioner.safetensors").is_file():
        return run.preconditioner()
    again = runs / run.path.name
    return Run(again).preconditioner() if again.is_dir() else _fixed(run, problem)


def _fixed(run: Run, problem: Problem):
    require(
        not run.config.trained, f"{run.path}: P", "not there", "a run of this name below --made"
    )
    # fitted on its images
    problem = Problem.build(run.config) if run.config.method == "ridge" else problem
    return run.config.recipe.make(problem)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        default=[RESULTS],
        help="run folders, or folders with such below",
    )
    parser.add_argument("--again", action="store_true", help="also those that have a list")
    parser.add_argument(
        "--replay", action="store_true", help="also add replay.npz where it is missing"
    )
    parser.add_argument(
        "--made", type=Path, default=Path("runs"), help="runs that still hold large trained files"
    )
    options = parser.parse_args()
    by = {"date": now(), "commit": provenance()["commit"]}
    failed = 0
    for folder in (
        folder for root in options.folders for folder in experiments.run_folders(root, deep=True)
    ):
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
