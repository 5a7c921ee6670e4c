"""Tables from run folders, as Markdown: the papers' numbers beside ours, never one in the place of the other."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from .presets import describe
from .results import Run


def paper_values() -> list[dict]:
    """The published numbers this project compares with, each with its source."""
    return yaml.safe_load((Path(__file__).parent / "paper_values.yaml").read_text(encoding="utf-8"))


def published(preset: str, quantity: str = "student", source: str | None = None) -> list[dict]:
    """The published values of a preset's ``student`` or ``teacher``, of one source or of all."""
    rows = [row for row in paper_values() if row["preset"] == preset and row["quantity"] == quantity]
    return [row for row in rows if source is None or row["source"] == source]


def group(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs by preset, seeds in order."""
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.config.seed):
        groups.setdefault(run.config.preset, []).append(run)
    return groups


def mean_sd(values: Sequence[float], digits: int = 2) -> str:
    """``mean`` for one value, ``mean +/- sd (count)`` for several: sd over seeds."""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.{digits}f} ({len(values)})"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def gain(run: Run, quantity: str = "psnr") -> float:
    """Student minus the baseline of the same run (same images, solver and start), in dB."""
    return run.metrics["student"][quantity] - run.metrics["baseline"][quantity]


def paper_beside_ours(runs: Iterable[Run], presets: Sequence[str], baseline: float, source: str) -> str:
    """Paper | ours | difference of the student's PSNR and of its gain over the baseline (``baseline`` is the paper's)."""
    groups, rows = group(runs), []
    for preset in presets:
        mine = groups.get(preset, [])
        theirs = published(preset, source=source)
        paper = theirs[0]["value"] if theirs else None
        psnr = [run.metrics["student"]["psnr_batch_mse"] for run in mine]
        gains = [gain(run, "psnr_batch_mse") for run in mine]
        paper_gain = None if paper is None else paper - baseline
        rows.append(
            (
                describe(preset)["about"],
                _number(paper),
                mean_sd(psnr) if mine else "",
                _difference(psnr, paper),
                _number(paper_gain),
                mean_sd(gains) if mine else "",
                _difference(gains, paper_gain),
                ", ".join(f"`{run.config.digest}`" for run in mine),
            )
        )
    head = ("variant", "paper PSNR", "our PSNR", "difference", "paper gain", "our gain", "difference", "runs")
    return markdown(head, rows)


def measured(runs: Iterable[Run], presets: Sequence[str]) -> str:
    """Everything measured of the student: both PSNR conventions, SSIM, audit, training time."""
    groups = group(runs)
    head = (
        "variant",
        "seeds",
        "PSNR",
        "PSNR (batch MSE)",
        "SSIM",
        "residual",
        "error in range",
        "error in null space",
        "training s",
    )
    return markdown(head, [_measured_row(preset, groups[preset]) for preset in presets if preset in groups])


def _measured_row(preset: str, runs: Sequence[Run]) -> tuple[str, ...]:
    students = [run.metrics["student"] for run in runs]

    def cell(name: str, digits: int = 2) -> str:
        return mean_sd([student[name] for student in students], digits)

    audits = [mean_sd([s["audit"][name] for s in students], 3) for name in ("residual", "error_range", "error_null")]
    seconds = mean_sd([run.manifest["training_seconds"] for run in runs], 0)
    seeds = ", ".join(str(run.config.seed) for run in runs)
    return (describe(preset)["about"], seeds, cell("psnr"), cell("psnr_batch_mse"), cell("ssim", 3), *audits, seconds)


def provenance(runs: Iterable[Run]) -> str:
    """Which run made what: folder, commit, versions, threads, seconds."""
    head = ("run", "commit", "torch", "deepinv", "threads", "seconds")
    rows = []
    for run in runs:
        made = run.manifest
        commit = (made["commit"] or "")[:10] + (" (modified)" if made["dirty"] else "")
        versions = made["versions"]
        rows.append(
            (f"`{run.path.name}`", commit, versions["torch"], versions["deepinv"], str(made["threads"]), f"{made['seconds']:.0f}")
        )
    return markdown(head, rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _difference(ours: Sequence[float], paper: float | None) -> str:
    return "" if paper is None or not ours else f"{statistics.mean(ours) - paper:+.2f}"
