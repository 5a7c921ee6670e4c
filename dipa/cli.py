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
import os
from collections.abc import Iterator

from . import __version__
from .checks import InputError, one_line, shortened
from .commands import COMMANDS
from .interrupt import Guard


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"error: {shortened(one_line(message), 600)} (see '{self.prog} --help')\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="dipa", description="Distilled Preconditioned Algorithms: presets, runs and data."
    )
    parser.add_argument("--version", action="version", version=f"dipa {__version__}")
    added = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = added.add_parser(name, help=text, description=text)
        command.set_defaults(prepare=COMMANDS[name])
        return command

    command = add(
        "list",
        "list the presets, or finished runs and on what they were computed",
    )
    command.add_argument("--json", action="store_true", help="one JSON object per line of the list")
    where = "list the finished runs of FOLDER (default: $DIPA_RUNS, else ./runs) instead"
    command.add_argument("--runs", nargs="?", const="", metavar="FOLDER", help=where)
    for name, text in (
        ("show", "print a preset's resolved configuration"),
        ("run", "do a run, or resume it"),
    ):
        command = add(name, text)
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
    command = _of_operator(add("inspect", "look at an operator before anything is trained"))
    command.add_argument("--role", default="student", help="student (default) or teacher")
    command = _of_operator(add("compare", "every method on an operator, against seconds"))
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
    command = add("evaluate", "a finished run's student on images of your own")
    command.add_argument("run", help="a run folder")
    where = "a data set of 'dipa data' (its test split), or a folder of pictures"
    command.add_argument("--images", required=True, metavar="NAME|FOLDER", help=where)
    command.add_argument("--count", type=int, help="how many of them (default: all)")
    command.add_argument("--device", default="auto", help="as for run (default auto)")
    command.add_argument("--json", action="store_true", help="one JSON object")
    command = add("claims", "what the papers claim, judged from recorded runs")
    command.add_argument("--json", action="store_true", help="one JSON object per claim of a list")
    where = "judge by the runs in FOLDER (default: the recorded runs of the book)"
    command.add_argument("--runs", metavar="FOLDER", help=where)
    command = add("data", "list the data sets: which are here, how to get the others")
    command.add_argument("name", nargs="?", help="one data set")
    command.add_argument(
        "--download",
        action="store_true",
        help="fetch it from its public source into the cache (mnist, bsds500)",
    )
    command = add(
        "verify",
        "compare every file of run folders with the hashes in their manifests",
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
