"""What each command of :mod:`dipa.cli` does with its arguments.

A command is prepared first: its arguments are checked and what it needs is imported. Torch takes
seconds, and a stop in the middle of an import is no exception that can be relied on; so only the
work that is then given back runs under a :class:`~dipa.interrupt.Guard`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import yaml

from . import choices, experiments
from .checks import InputError, require, require_choice, require_int, require_path

if TYPE_CHECKING:
    from .analysis import Inspection
    from .comparison import Comparison
    from .experiments.inspecting import Target
    from .experiments.own_images import Evaluation
    from .experiments.results import Run

Work = Callable[[], None]


def list_presets(options: argparse.Namespace) -> Work:
    """The presets, or the finished runs of a folder."""
    if options.runs is not None:
        return lambda: _list_runs(options.runs, options.json)
    rows = [experiments.describe(name) for name in experiments.names()]
    width = max(len(row["name"]) for row in rows)
    lines = (
        [json.dumps(rows, indent=2)]
        if options.json
        else [f"{row['name']:<{width}}  {row['about']}" for row in rows]
    )
    return lambda: print("\n".join(lines))


def _list_runs(folder: str, as_json: bool) -> None:
    """Print the finished runs under ``folder`` (empty: where runs go), and on what each was
    computed.
    """
    root = require_path("--runs", folder) if folder else experiments.runs_directory()
    require(root.is_dir(), "--runs", str(root), "a folder that holds run folders")
    rows = [_run_row(run) for run in experiments.find_runs(root)]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    width = max((len(row["run"]) for row in rows), default=0)
    for row in rows:
        computed = f"{row['device']}, {row['precision']}, {row['seconds']:.0f} s"
        print(f"{row['run']:<{width}}  {row['psnr']:6.2f} dB ({row['gain']:+.2f})  {computed}")


def _run_row(run: Run) -> dict[str, Any]:
    """PSNR of the student, its gain over the baseline, and with what they were computed."""
    baseline, student = (run.metrics[role]["psnr"] for role in ("baseline", "student"))
    computed = {
        "device": run.manifest["device"],
        "precision": run.precision,
        "seconds": run.manifest["seconds"],
    }
    return {"run": run.path.name, "psnr": student, "gain": student - baseline} | computed


def judge_claims(options: argparse.Namespace) -> Work:
    """The verdict on every claim of the papers."""
    folder = None if options.runs is None else require_path("--runs", options.runs)
    require(
        folder is None or folder.is_dir(), "--runs", options.runs, "a folder that holds run folders"
    )
    from . import claims

    def work() -> None:
        root = experiments.results_folder() if folder is None else folder
        verdicts = claims.judge(experiments.find_runs(root, deep=True))
        if options.json:
            print(json.dumps([verdict.plain() for verdict in verdicts], indent=2))
            return
        for verdict in verdicts:
            statement, source, paper, ours, seeds, budget, word = verdict.row()
            numbers = f"paper {paper or '-'}, ours {ours or '-'}, seeds {seeds}"
            print(f"{word:<24}  {statement} ({source}; {numbers}, budget {budget or '-'})")

    return work


def show(options: argparse.Namespace) -> Work:
    """A preset's configuration."""
    config = experiments.resolve(
        options.preset, options.profile, seed=options.seed, overrides=options.set
    )
    return lambda: print(
        f"# {config.run_name}", yaml.safe_dump(asdict(config), sort_keys=False), sep="\n", end=""
    )


def _target(options: argparse.Namespace) -> tuple[Target, tuple[int, int, int] | None]:
    size = None if options.size is None else (options.size[0], options.size[1], options.size[2])
    from .experiments.inspecting import Target

    return Target(options.preset, options.profile, options.set), size


def inspect(options: argparse.Namespace) -> Work:
    """One operator, before anything is trained."""
    from .experiments.inspecting import ROLES, inspection

    require_choice("--role", options.role, ROLES)
    target, size = _target(options)
    return lambda: _tell(inspection(target, options.role, size), options.json)


def compare(options: argparse.Namespace) -> Work:
    """Every method on one operator."""
    from .experiments.inspecting import comparison

    target, size = _target(options)
    count, steps = (
        require_int("--count", options.count, 8),
        require_int("--steps", options.steps, 0),
    )
    limit, seed = require_int("--limit", options.limit, 0), require_int("--seed", options.seed, 0)
    return lambda: _tell(
        comparison(
            target,
            images=options.images,
            count=count,
            img_size=size,
            steps=steps,
            methods=options.methods,
            limit=limit,
            seed=seed,
            progress=not options.quiet,
        ),
        options.json,
    )


def evaluate(options: argparse.Namespace) -> Work:
    """A finished run's student on pictures of the user's own."""
    run = experiments.Run(require_path("run", options.run))
    count = None if options.count is None else require_int("--count", options.count, 1)
    from . import device
    from .experiments.own_images import evaluate_on, own_images

    place = device.choose(options.device)

    def work() -> None:
        images = own_images(run, options.images, count)
        _tell(evaluate_on(run, images, place), options.json)

    return work


def _tell(answer: Inspection | Comparison | Evaluation, as_json: bool) -> None:
    print(json.dumps(answer.plain(), indent=2, allow_nan=False) if as_json else answer)


def run(options: argparse.Namespace) -> Work:
    """A run, or the rest of one."""
    config = experiments.resolve(
        options.preset, options.profile, seed=options.seed, overrides=options.set
    )
    out = None if options.out is None else require_path("--out", options.out)
    from .training import parallel

    run = experiments.run

    def work() -> None:
        with parallel.joined():
            finished = run(config, out, device=options.device, progress=not options.quiet)
            if parallel.rank() == 0:
                print(summary(finished))

    return work


def summary(run: Run) -> str:
    """A finished run in a few lines: PSNR of baseline, student and teacher, the audit, the
    folder.
    """
    lines = [
        f"{run.config.preset} ({run.config.profile}, seed {run.config.seed}): "
        f"{run.manifest['counts']['test']} test images"
    ]
    for role in ("baseline", "student", "teacher"):
        numbers = run.metrics[role]
        residual = numbers["audit"]["residual"]
        lines.append(
            f"  {role:<9} {numbers['psnr']:6.2f} dB   residual |Hx-y|/|y| {residual:.4f}   "
            f"{numbers['status']}{_untrusted(numbers)}"
        )
    lines += _shift_lines(run) + _falsification_lines(run)
    return "\n".join(
        [*lines, f"  {run.manifest['seconds']:.0f} s on {run.place}; folder: {run.path}"]
    )


def _untrusted(numbers: dict[str, Any]) -> str:
    """For how many images P was left out."""
    count = numbers.get("untrusted", 0)
    return f", {count} untrusted: without P" if count else ""


def _shift_lines(run: Run) -> list[str]:
    """One line per further test: PSNR of baseline and student under the shift."""
    psnr = {
        name: (part["baseline"]["psnr"], part["student"]["psnr"])
        for name, part in run.metrics.get("shifts", {}).items()
    }
    return [
        f"  {name}: baseline {plain:.2f} dB, student {student:.2f} dB"
        for name, (plain, student) in psnr.items()
    ]


def _falsification_lines(run: Run) -> list[str]:
    """The falsification test of the student, where it has a preconditioner."""
    test = run.metrics["student"].get("falsification")
    if not test:
        return []
    checks = ", ".join(f"{name} {'yes' if held else 'NO'}" for name, held in test["checks"].items())
    leak = max(test["energy_outside"])
    return [
        f"  falsification test, {test['iterations']} iterations: {checks}; largest energy "
        f"outside range(H^T) {leak:.3f}"
    ]


def data(options: argparse.Namespace) -> Work:
    """Which data sets are here, and how to get the others."""
    if options.name is not None:
        require_choice("dataset", options.name, choices.DATASETS)
    from . import data

    def work() -> None:
        wanted = choices.DATASETS if options.name is None else (options.name,)
        if options.download:
            for name in wanted if options.name else data.downloads():
                data.download(name)
        available = [_data_line(name, file) for name in wanted for file in data.here(name)]
        if options.name is not None and not any(available):
            raise InputError(f"data set {options.name!r} is not available")

    return work


def _data_line(name: str, file: str) -> bool:
    """Print what is here of a data set, or what is missing; whether it is here."""
    from . import data

    source, label = data.SOURCES[name], f"{name} {file}".strip()
    try:
        counts = ", ".join(f"{count} {split}" for split, count in data.lengths(name, file).items())
        print(f"{label}: {counts} images at 32 x 32\n  {source.about}; {source.get}")
        return True
    except InputError as error:
        print(f"{label}: not available ({error})\n  {source.about}")
        return False


def verify(options: argparse.Namespace) -> Work:
    """Every file of run folders against the hashes in their manifests."""
    if not options.solve:
        return lambda: _verified(options.folder)
    from .experiments import replay

    return lambda: _verified(options.folder, replay.check)


def _verified(folders: list[str], check: Callable[[Run], object] | None = None) -> None:
    """Print a line for each run folder that is damaged or cannot be verified; fail where there
    is one, or no run at all.
    """
    roots = [require_path("folder", folder) for folder in folders]
    paths = [path for root in roots for path in experiments.run_folders(root, deep=True)]
    require(len(paths) > 0, "folder", ", ".join(map(str, folders)), "one with run folders in it")
    damaged = 0
    for path in paths:
        try:
            experiments.Run(path).verify(sealed=True)
            if check is not None:
                check(experiments.Run(path))
        except InputError as error:
            damaged += 1
            print(error)
    require(
        damaged == 0,
        "runs",
        f"{damaged} of {len(paths)} damaged or without hashes",
        "whole ones that can be verified",
    )
    solved = "" if check is None else "; solved again, each agrees"
    print(f"{len(paths)} runs verified: every file is as it was written{solved}")


COMMANDS: dict[str, Callable[[argparse.Namespace], Work]] = {
    "list": list_presets,
    "show": show,
    "run": run,
    "inspect": inspect,
    "compare": compare,
    "evaluate": evaluate,
    "claims": judge_claims,
    "data": data,
    "verify": verify,
}
