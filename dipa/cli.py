"""The command line: ``dipa list | show | inspect | run | claims | data | verify``. Bad input is one
line on stderr and exit status 2.
"""

from __future__ import annotations

import sys
import warnings

# run as a module: begin where ``dipa`` does, before anything slow is imported
if __name__ == "__main__":
    from dipa.__main__ import main as begin

    sys.exit(begin())

import argparse
import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import yaml

from . import __version__, choices, experiments
from .checks import (
    InputError,
    one_line,
    require,
    require_choice,
    require_int,
    require_path,
    shortened,
)
from .interrupt import Guard

if TYPE_CHECKING:
    from .analysis import Inspection
    from .comparison import Comparison
    from .experiments.inspecting import Target
    from .experiments.own_images import Evaluation
    from .experiments.results import Run

# What a command does once its arguments are checked and what it needs is imported: torch takes
# seconds, and a stop in the middle of an import is no exception that can be relied on, so Guard
# comes after.
Work = Callable[[], None]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"error: {shortened(one_line(message), 600)} (see '{self.prog} --help')\n")


def _list(options: argparse.Namespace) -> Work:
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


def _claims(options: argparse.Namespace) -> Work:
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


def _show(options: argparse.Namespace) -> Work:
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


def _inspect(options: argparse.Namespace) -> Work:
    from .experiments.inspecting import ROLES, inspection

    require_choice("--role", options.role, ROLES)
    target, size = _target(options)
    return lambda: _tell(inspection(target, options.role, size), options.json)


def _compare(options: argparse.Namespace) -> Work:
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


def _evaluate(options: argparse.Namespace) -> Work:
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


def _run(options: argparse.Namespace) -> Work:
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


def _data(options: argparse.Namespace) -> Work:
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


def _verify(options: argparse.Namespace) -> Work:
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


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="dipa", description="Distilled Preconditioned Algorithms: presets, runs and data."
    )
    parser.add_argument("--version", action="version", version=f"dipa {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    def add(
        name: str, prepare: Callable[[argparse.Namespace], Work], text: str
    ) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(prepare=prepare)
        return command

    command = add(
        "list", _list, "list the presets, or finished runs and on what they were computed"
    )
    command.add_argument("--json", action="store_true", help="one JSON object per line of the list")
    where = "list the finished runs of FOLDER (default: $DIPA_RUNS, else ./runs) instead"
    command.add_argument("--runs", nargs="?", const="", metavar="FOLDER", help=where)
    for name, prepare, text in (
        ("show", _show, "print a preset's resolved configuration"),
        ("run", _run, "do a run, or resume it"),
    ):
        command = add(name, prepare, text)
        command.add_argument("preset", help="a name from 'dipa list'")
        command.add_argument("--profile", default="small", help="smoke, small (default) or paper")
        command.add_argument(
            "--seed", type=int, default=0, help="seed of image order and noise (default 0)"
        )
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="override, such as training.steps=10",
        )
        if name == "run":
            command.add_argument(
                "--out", help="folder that holds run folders (default: $DIPA_RUNS, else ./runs)"
            )
            where = "auto (a GPU where there is one), cpu, cuda, cuda:N or mps (default auto)"
            command.add_argument("--device", default="auto", help=where)
            command.add_argument("--quiet", action="store_true", help="no progress bars")
    command = _of_operator(
        add("inspect", _inspect, "look at an operator before anything is trained")
    )
    command.add_argument("--role", default="student", help="student (default) or teacher")
    command = _of_operator(add("compare", _compare, "every method on an operator, against seconds"))
    where = (
        "a data set of 'dipa data', or a folder of pictures (default: the preset's, or embedded)"
    )
    command.add_argument("--images", metavar="NAME|FOLDER", help=where)
    command.add_argument(
        "--count", type=int, default=40, help="images to fit and choose on (default 40)"
    )
    command.add_argument(
        "--methods", nargs="+", metavar="NAME", help="those to compare (default all)"
    )
    command.add_argument(
        "--steps", type=int, default=0, help="of training L-DIPA and N-DIPA (default 0: not)"
    )
    where = "iterations of the plain run to its limit, for the time to 1 %% of it (default 0: not)"
    command.add_argument("--limit", type=int, default=0, help=where)
    command.add_argument("--seed", type=int, default=0, help="of split and noise (default 0)")
    command.add_argument("--quiet", action="store_true", help="no progress bar")
    command = add("evaluate", _evaluate, "a finished run's student on images of your own")
    command.add_argument("run", help="a run folder")
    where = "a data set of 'dipa data' (its test split), or a folder of pictures"
    command.add_argument("--images", required=True, metavar="NAME|FOLDER", help=where)
    command.add_argument("--count", type=int, help="how many of them (default: all)")
    command.add_argument("--device", default="auto", help="as for run (default auto)")
    command.add_argument("--json", action="store_true", help="one JSON object")
    command = add("claims", _claims, "what the papers claim, judged from recorded runs")
    command.add_argument("--json", action="store_true", help="one JSON object per claim of a list")
    where = "judge by the runs in FOLDER (default: the recorded runs of the book)"
    command.add_argument("--runs", metavar="FOLDER", help=where)
    command = add("data", _data, "list the data sets: which are here, how to get the others")
    command.add_argument("name", nargs="?", help="one data set")
    command.add_argument(
        "--download",
        action="store_true",
        help="fetch it from its public source into the cache (mnist, bsds500)",
    )
    command = add(
        "verify", _verify, "compare every file of run folders with the hashes in their manifests"
    )
    command.add_argument(
        "folder", nargs="+", help="a run folder, or one with run folders anywhere below it"
    )
    again = "also solve each run again on its stored image, which needs neither data nor denoiser"
    command.add_argument("--solve", action="store_true", help=again)
    return parser


def _of_operator(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """A command about one operator, whose arguments say which."""
    command.add_argument(
        "preset", help="a name from 'dipa list', or module:function that returns an operator"
    )
    command.add_argument("--profile", help="smoke, small (default) or paper, of a preset")
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override")
    where = "of the images, where the operator does not say"
    command.add_argument("--size", nargs=3, type=int, metavar=("C", "H", "W"), help=where)
    command.add_argument("--json", action="store_true", help="one JSON object")
    return command


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    try:
        status = _command(argv)
        if sys.stdout is not None:
            # a pipe that is closed, a disk that is full: here it can still be told
            sys.stdout.flush()
        return status
    except InputError as error:
        return _end(2, f"error: {error}")
    except BrokenPipeError:  # nobody reads on, as with ``dipa list | head -1``
        return _end(1)
    except OSError as error:
        return _end(1, f"error: {one_line(str(error))}")
    except KeyboardInterrupt as stop:
        text = f"stopped ({stop or 'SIGINT'}); the same command continues from the last checkpoint"
        return _end(getattr(stop, "status", 130), text)


def _command(argv: list[str] | None) -> int:
    try:
        options = _parser().parse_args(argv)
    except SystemExit as stop:  # argparse has said what there is to say
        return int(stop.code or 0)
    with _warnings_in_one_line():
        work = options.prepare(options)
        with Guard():
            work()
    return 0


@contextlib.contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """What a command warns of, without the line of code that did."""
    kept = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"warning: {one_line(message)}\n"
    try:
        yield
    finally:
        warnings.formatwarning = kept


def _end(status: int, text: str = "") -> int:
    """Say ``text`` on standard error; what standard output still holds and cannot write goes
    nowhere.
    """
    with contextlib.suppress(OSError):
        if text:
            print(text, file=sys.stderr, flush=True)
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        # Python would try again at its end and complain; its documentation advises this
        with contextlib.suppress(OSError):  # of a stream that is no file
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status
