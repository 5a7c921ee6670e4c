"""What to use on which operator: recorded comparisons (``benchmarks/eight_operators.py``) as
tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..comparison import Comparison, Row
from ..comparison.table import HEAD
from ..comparison.ways import TRAINED
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


def what_training_adds(comparisons: Mapping[str, Comparison]) -> str:
    """A row for each operator: the best of each family in dB, and of each trained method with the
    minutes of its training.
    """
    trained = sorted(
        {row.method for one in comparisons.values() for row in one.rows if _trained(row)}
    )
    rows = [
        (
            name,
            _best(row.psnr for row in one.rows if not row.learned),
            _best(row.psnr for row in one.rows if row.learned and not _trained(row)),
            *(cell for method in trained for cell in _of(method, one)),
        )
        for name, one in comparisons.items()
    ]
    heads = [head for method in trained for head in (f"{method} (dB)", f"{method} (min)")]
    return table(("operator", "untrained (dB)", "closed form (dB)", *heads), rows)


def _trained(row: Row) -> bool:
    """Whether it was trained by steps."""
    return row.family == TRAINED


def _of(method: str, comparison: Comparison) -> tuple[str, str]:
    row = next((row for row in comparison.rows if row.method == method), None)
    return ("", "") if row is None else (f"{row.psnr:.2f}", f"{row.fit / 60:.1f}")


def _best(psnr: Iterable[float]) -> str:
    return f"{max(psnr):.2f}"


def whole(comparison: Comparison, most: int = 8) -> str:
    """The first rows of one comparison in full."""
    return table(HEAD, [row.cells() for row in comparison.rows[:most]])


def learned_first(comparisons: Mapping[str, Comparison]) -> int:
    """On how many operators a preconditioner that was fitted or trained is first."""
    return sum(comparison.first.learned for comparison in comparisons.values())
