"""Calls and command lines with something wrong in them: a result or one clear line, within five
seconds.

``make properties`` tries twenty times as many, and others every time.
"""

import contextlib
import io
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager

import fuzz_calls
import fuzz_commands
import numpy as np
import pytest
from hypothesis import settings
from tried import COUNTS, check_message, result_or_clear_error

import dipa
from dipa import cli, commands, data, experiments
from dipa.experiments.problem import Problem

SECONDS = 5
LONG = settings.default.max_examples > 100


@contextmanager
def limited(what: str):
    """Fails where the stretch takes longer than ``SECONDS``; one that would never end is ended
    after ten times as many.
    """

    def late(signum, frame):
        raise TimeoutError(what)

    before, began = signal.signal(signal.SIGALRM, late), time.monotonic()
    signal.alarm(10 * SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < SECONDS, what


def numbers(count: int, chunk: int) -> list[range]:
    """``count`` numbers of calls in chunks: from 0 on, in the long form twenty times as many
    from anywhere.
    """
    first = random.randrange(2**40) if LONG else 0
    count *= 20 if LONG else 1
    return [
        range(first + start, first + min(start + chunk, count)) for start in range(0, count, chunk)
    ]


def public() -> set[str]:
    """Every public name of a function or class, of the modules whose functions take arguments
    of the user.
    """
    modules = (
        dipa,
        dipa.analysis,
        dipa.data,
        dipa.endtoend,
        dipa.networks,
        dipa.operators,
        dipa.preconditioners,
        dipa.solvers,
    )
    modules += (dipa.training, dipa.experiments)
    return {
        name for module in modules for name in module.__all__ if callable(getattr(module, name))
    }


def test_every_public_call_is_tried():
    tried = {part for name in fuzz_calls.CALLS for part in name.replace(",", ".").split(".")}
    assert public() <= tried | fuzz_calls.RECORDS, public() - tried - fuzz_calls.RECORDS


@pytest.mark.parametrize("name", sorted(fuzz_calls.CALLS))
def test_the_calls_that_are_mutated_are_valid(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    function, given = fuzz_calls.CALLS[name]
    try:
        function(**(given() if callable(given) else given))
    except dipa.InputError as error:
        assert "nowhere" in str(error) or "nothing of this name" in str(error)


NUMPY = {int: (np.int64, np.int16, np.array), float: (np.float64, np.float32, np.array)}


def of_numpy(argument: str, value: object) -> list:
    """``value`` as numpy's, in several forms; none for what is no number."""
    if argument == "img_size":
        return [tuple(map(np.int32, value)), np.array(value)]
    return [form(value) for form in NUMPY.get(type(value), ())]


@pytest.mark.parametrize("name", sorted(fuzz_calls.CALLS))
def test_numbers_of_numpy_are_taken_wherever_a_number_is(name, tmp_path, monkeypatch):
    """Each number of the call in each form of numpy, and an ``img_size`` of them: never refused
    for what they are.
    """
    function, given = fuzz_calls.CALLS[name]
    for argument, value in (given() if callable(given) else given).items():
        for place, number in enumerate(of_numpy(argument, value)):
            (tmp_path / f"{argument} {place}").mkdir()
            monkeypatch.chdir(tmp_path / f"{argument} {place}")
            fresh = given() if callable(given) else given
            try:
                function(**fresh | {argument: number})
            except dipa.InputError as error:
                assert "nothing of this name" in str(error), (argument, number, error)


@pytest.mark.parametrize("chunk", numbers(600, 200), ids=str)
def test_mutated_calls(chunk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for number in chunk:
        what, call = fuzz_calls.call(number)
        print(what)  # shown where it fails
        try:
            with limited(what), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's, of what is then refused
                result_or_clear_error(call)
        except OSError as error:  # what the system refuses to write
            assert "could not be written" in str(error), what


# --- command lines --------------------------------------------------------------------------------


def check_command(words: list[str], status: int, out: str, err: str) -> None:
    """0, or 2 (1 where the system refuses) with one line on standard error; never a traceback."""
    COUNTS["examples tried"] += 1
    COUNTS["clear errors" if status else "results"] += 1
    assert status in (0, 1, 2), (words, status)
    assert "Traceback" not in out + err, (words, err)
    if status:
        assert (
            err.startswith("error: ") and err.endswith("\n") and not out.strip().startswith("error")
        ), (words, err)
        check_message(err)
    else:
        assert not err, (words, err)


@pytest.fixture
def nothing_is_computed(monkeypatch, tmp_path):
    """A run ends where it would begin to compute; its data, operators, denoiser and solver are
    made.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(experiments, "run", lambda config, out, **more: Problem.build(config))
    monkeypatch.setattr(commands, "summary", lambda run: "built")
    monkeypatch.setattr(data, "download", lambda name: None)


@pytest.mark.parametrize("chunk", numbers(300, 100), ids=str)
def test_mutated_command_lines(chunk, nothing_is_computed):
    for number in chunk:
        words = fuzz_commands.line(number)
        out, err = io.StringIO(), io.StringIO()
        with (
            limited(f"line {number}: {words}"),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            status = cli.main(words)
        check_command(words, status, out.getvalue(), err.getvalue())


@pytest.mark.parametrize("number", numbers(2, 40)[0] if LONG else [0])
def test_mutated_command_lines_as_processes(number, tmp_path):
    """No run is begun; words that no shell can pass are left out."""
    words = [
        word.replace("\0", "").encode("utf-8", "replace").decode()
        for word in fuzz_commands.line(number)
    ]
    words = ["show" if word == "run" else word for word in words]
    command = [sys.executable, "-m", "dipa", *words]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=os.environ
    )
    check_command(words, done.returncode, done.stdout, done.stderr)
