"""Make the committed runs that are missing: those book/results/records.yaml lists, in profile
small.

    python scripts/record.py [--workers 2] [--dry-run] [PRESET ...]

Each run is a `dipa run` of its own, one thread each for two workers on two cores. It writes under
runs/recorded, and its folder is then copied to book/results/<task>, without a trained file above 4
MB (the manifest keeps its SHA-256). Runs that are already there are kept; a killed run resumes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from dipa import experiments
from dipa.experiments.working import only_writer
from dipa.experiments.writing import copy_run

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "book" / "results"
WORK = ROOT / "runs" / "recorded"
# said, not left to the machine, where a preset does not say: recorded runs are compared with each
# other
PRECISION = "solver.precision=bf16"


def wanted() -> list[tuple[str, str, int]]:
    """(task, preset, seed) of every run of records.yaml, in its order."""
    records = yaml.safe_load((RESULTS / "records.yaml").read_text(encoding="utf-8"))
    return [
        (task, preset, seed)
        for task, presets in records.items()
        for preset, seeds in presets.items()
        for seed in seeds
    ]


def settings(preset: str) -> list[str]:
    """What is set beyond the preset."""
    said = experiments.resolve(preset, "small").solver.precision != "auto"
    return [] if said else [PRECISION]


def run_name(preset: str, seed: int) -> str:
    """The name of the folder of a recorded run."""
    return experiments.resolve(preset, "small", seed=seed, overrides=settings(preset)).run_name


def record(task: str, preset: str, seed: int, threads: int) -> str:
    """One run and its committed copy; a line for the log."""
    name = run_name(preset, seed)
    if not (WORK / name / "manifest.json").is_file():
        command = [
            sys.executable,
            "-m",
            "dipa.cli",
            "run",
            preset,
            "--seed",
            str(seed),
            "--out",
            str(WORK),
            "--quiet",
        ]
        command += [word for setting in settings(preset) for word in ("--set", setting)]
        done = subprocess.run(
            command,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            return f"FAILED {name}: {done.stderr.strip().splitlines()[-1]}"
    if not (RESULTS / task / name / "manifest.json").is_file():
        publish(WORK / name, RESULTS / task / name)
    return f"recorded {name}"


def publish(run: Path, target: Path) -> None:
    """Copy a run folder, large trained files left out (their hashes stay in the manifest);
    whole or not at all.
    """
    with only_writer(target):
        copy_run(experiments.Run(run), target)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "presets", nargs="*", help="only these presets (default: all that records.yaml lists)"
    )
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (default 2)")
    parser.add_argument("--threads", type=int, default=1, help="threads of each run (default 1)")
    parser.add_argument("--dry-run", action="store_true", help="only list the missing runs")
    options = parser.parse_args()
    chosen = [run for run in wanted() if not options.presets or run[1] in options.presets]
    names = {run: run_name(run[1], run[2]) for run in chosen}
    missing = [
        run for run in chosen if not (RESULTS / run[0] / names[run] / "manifest.json").is_file()
    ]
    print(f"{len(missing)} of {len(chosen)} runs to make", flush=True)
    if options.dry_run:
        print("\n".join(names[run] for run in missing))
        return 0
    failed = 0
    with ThreadPoolExecutor(options.workers) as pool:
        for line in pool.map(lambda run: record(*run, options.threads), missing):
            print(line, flush=True)
            failed += line.startswith("FAILED")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
