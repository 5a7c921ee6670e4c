"""Text of the tables: a Markdown table, means with standard deviations, numbers as the papers
print them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of a head and rows of text."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def mean_sd(values: Sequence[float], digits: int = 2) -> str:
    """``mean`` for one value, ``mean +/- sd (count)`` for several: sd over seeds. Nothing for
    none.
    """
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return (
        mean
        if len(values) == 1
        else f"{mean} ± {statistics.stdev(values):.{digits}f} ({len(values)})"
    )


def short_count(count: float) -> str:
    """A number of parameters in four digits, as the papers print them: 858.8k, 1.718M."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.4g}{letter}"
    return f"{count:.0f}"


def decibels(value: float | None) -> str:
    """A number of dB in two digits, or nothing."""
    return "" if value is None else f"{value:.2f}"


def setting_text(value: Any) -> str:
    """The value of a setting as text."""
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def commit_text(manifest: Mapping[str, Any], unknown: str = "") -> str:
    """The first digits of a manifest's commit (``unknown`` where there is none), and whether
    the checkout had been changed.
    """
    return (manifest["commit"] or unknown)[:10] + (" (modified)" if manifest["dirty"] else "")
