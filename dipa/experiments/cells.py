"""The pieces of a table: numbers as text, and the numbers of runs that stand in a row."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from .results import Run


def mean_sd(values: Sequence[float], digits: int = 2) -> str:
    """``mean`` for one value, ``mean +/- sd (count)`` for several: sd over seeds. Nothing for none."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f} ({len(values)})"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def gain(run: Run, quantity: str = "psnr") -> float:
    """Student minus the baseline of the same run (same images, solver and start), in dB."""
    return run.metrics["student"][quantity] - run.metrics["baseline"][quantity]


def short_count(count: float) -> str:
    """A number of parameters in four digits, as the papers print them: 858.8k, 1.718M."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.4g}{letter}"
    return f"{count:.0f}"


def tested(runs: Iterable[Run], role: str, metric: str, shift: str | None = None) -> list[float]:
    """One number of each run that has it, as trained or under a shift."""
    reports = [run.metrics.get("shifts", {}).get(shift, {}) if shift else run.metrics for run in runs]
    return [report[role][metric] for report in reports if metric in report.get(role, {})]


def beside(paper: float | None, ours: Sequence[float]) -> tuple[str, str, str]:
    """Paper, ours (mean and spread), and ours minus paper; empty where one is not known."""
    difference = "" if paper is None or not ours else f"{statistics.mean(ours) - paper:+.2f}"
    return number(paper), mean_sd(ours), difference


def number(value: float | None) -> str:
    """A number of dB in two digits, or nothing."""
    return "" if value is None else f"{value:.2f}"


def setting(value: Any) -> str:
    """The value of a setting as text."""
    return f"{value:g}" if isinstance(value, float) else f"{value}"


def digests(runs: Iterable[Run]) -> str:
    """The digest under which each run was made, the last part of its folder's name, and the precision it computed in."""
    return ", ".join(f"`{run.path.name.rpartition('-')[2]}` {run.precision}" for run in runs)
