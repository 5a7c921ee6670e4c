"""The one question of the property tests: a result or a clear error? It counts the answers for
the closing lines of pytest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import torch

from dipa import InputError

T = TypeVar("T")
COUNTS: Counter[str] = Counter()
LONGEST = 1000  # characters of a message that a person still reads


def result_or_clear_error(
    call: Callable[[], T], check: Callable[[T], object] = lambda result: None
) -> None:
    """``call`` returns what passes ``check``, or raises InputError in one line: what is wrong, a
    colon, and why.

    Anything else that is raised goes through and fails the test.
    """
    COUNTS["examples tried"] += 1
    try:
        result = call()
    except InputError as error:
        check_message(str(error))
        COUNTS["clear errors"] += 1
    else:
        check(result)
        COUNTS["results"] += 1


def check_message(text: str) -> None:
    """One line of a length to read, which begins with a name and holds more than that."""
    assert len(text.splitlines()) == 1 and len(text) <= LONGEST, repr(text)
    name, colon, reason = text.partition(": ")
    assert name and colon and reason, text
    assert not name.isspace() and "Traceback" not in text, text


def check_finite(tensor: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    assert (tuple(tensor.shape), tensor.dtype) == (tuple(shape), dtype)
    assert bool(torch.isfinite(tensor).all())


def report() -> str:
    """The counts in one line; empty where no property ran."""
    parts = [f"{COUNTS[name]:,} {name}" for name in ("examples tried", "results", "clear errors")]
    return f"properties: {', '.join(parts)}" if COUNTS else ""
