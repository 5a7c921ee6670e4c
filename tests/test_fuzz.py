"""Calls and command lines with something wrong in them: a result or one clear line, within five seconds.

``make fuzz`` tries many more, and others every time.
"""

import random
import signal
import time
import warnings
from contextlib import contextmanager

import fuzz_calls
import pytest
from hypothesis import settings
from tried import result_or_clear_error

import dipa

SECONDS = 5
LONG = settings.default.max_examples > 100


@contextmanager
def limited(what: str):
    """Fails where the stretch takes longer than ``SECONDS``; one that would never end is ended after ten times as many."""

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
    """``count`` numbers of calls in chunks: from 0 on, in the long form twenty times as many from anywhere."""
    first = random.randrange(2**40) if LONG else 0
    count *= 20 if LONG else 1
    return [range(first + start, first + min(start + chunk, count)) for start in range(0, count, chunk)]


def public() -> set[str]:
    """Every public name of a function or class, of the modules whose functions take arguments of the user."""
    modules = (dipa, dipa.analysis, dipa.data, dipa.endtoend, dipa.networks, dipa.operators, dipa.preconditioners, dipa.solvers)
    modules += (dipa.training, dipa.experiments)
    return {name for module in modules for name in module.__all__ if callable(getattr(module, name))}


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


@pytest.mark.parametrize("chunk", numbers(600, 200), ids=str)
def test_mutated_calls(chunk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    failed = []
    for number in chunk:
        what, call = fuzz_calls.call(number)
        try:
            with limited(what), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's, of what is then refused
                result_or_clear_error(call)
        except OSError as error:  # what the system refuses to write
            failed += [] if "could not be written" in str(error) else [f"{what}\n    {error}"]
        except Exception as error:  # noqa: BLE001  every one is told
            failed.append(f"{what}\n    {type(error).__name__}: {error}")
    assert not failed, f"{len(failed)} of {len(chunk)}\n" + "\n".join(failed)
