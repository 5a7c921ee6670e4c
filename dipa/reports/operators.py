"""What to use on which operator: recorded comparisons (``benchmarks/eight_operators.py``) as
tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..comparison import Comparison
from ..comparison.table import HEAD
from .markdown import table


def comparisons(output: Mapping[str, Any]) -> dict[str, Comparison]:
    """The comparisons of a recorded output by the name of their operator."""
    return {name: Comparison.read(plain) for name, plain in output["operators"].items()}


def by_operator(comparisons: Mapping[str, Comparison]) -> str:
    """A row for each operator: what reaches the target first, and the best that has learned
    nothing.
    """
    head = (
        "operator",
        "first to the target",
        "s",
        "fit (s)",
        "PSNR (dB)",
        "best without learning",
        "s ",
        "PSNR (dB) ",
    )
    return table(head, [(name, *_row(comparison)) for name, comparison in comparisons.items()])


def _row(comparison: Comparison) -> tuple[str, ...]:
    first = comparison.first
    free = max((row for row in comparison.rows if not row.learned), key=lambda row: row.psnr)
    return (
        f"**{first.name}**" if first.learned else first.name,
        f"{first.to_target:.2f}",
        f"{first.fit:.0f}" if first.learned else "",
        f"{first.psnr:.2f}",
        free.name,
        f"{free.seconds:.2f}",
        f"{free.psnr:.2f}",
    )


def whole(comparison: Comparison, most: int = 8) -> str:
    """The first rows of one comparison in full."""
    return table(HEAD, [row.cells() for row in comparison.rows[:most]])


def learned_first(comparisons: Mapping[str, Comparison]) -> int:
    """On how many operators a preconditioner that was fitted or trained is first."""
    return sum(comparison.first.learned for comparison in comparisons.values())
