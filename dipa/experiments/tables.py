"""Tables from run folders, as Markdown: the papers' numbers beside ours, never one in the place of the other."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import yaml

from ..checks import require, require_choice
from .config import Config
from .presets import describe, resolve
from .results import Run

METRICS = ("psnr_batch_mse", "psnr", "psnr_magnitude")  # the first is the authors' convention
EXTRAS = ("teacher", "parameters")
AS_TRAINED = "as trained"

# --- what the papers print --------------------------------------------------------------------------------------------


@cache
def _values() -> tuple[dict, ...]:
    return tuple(yaml.safe_load((Path(__file__).parent / "paper_values.yaml").read_text(encoding="utf-8")))


@cache
def _paper_config(preset: str) -> Config:
    return resolve(preset, "paper")


def paper_values() -> list[dict]:
    """The published numbers this project compares with, each with its source, the reading of what the text lost, and doubts."""
    return [dict(row) for row in _values()]


def published(preset: str, quantity: str = "student", source: str | None = None, shift: str | None = None) -> list[dict]:
    """The published values of a preset, of one source or of all.

    ``quantity`` is ``student`` (the PSNR of the row), ``teacher``, ``parameters`` or ``parameter_ratio``; ``shift`` the
    tested setting where it is not the one of training.
    """
    wanted = (preset, quantity, shift)
    rows = [dict(row) for row in _values() if (row["preset"], row["quantity"], row.get("shift")) == wanted]
    return [row for row in rows if source is None or row["source"] == source]


def presets_of(source: str, task: str | None = None) -> list[str]:
    """The presets whose rows a source prints (``"D2GP Table I"``, ``"DIPA Table 2"``), of one task or of all, in its order."""
    require_choice("source", source, dict.fromkeys(row["source"] for row in _values()))
    found = dict.fromkeys(row["preset"] for row in _values() if row["source"] == source)
    return [name for name in found if task in (None, _paper_config(name).task.kind)]


def paper_baseline(preset: str, source: str, shift: str | None = None) -> float | None:
    """What ``source`` prints without a preconditioner for the images, student operator and prior of a preset's row.

    None where it prints no such number. For a ``shift``, the operator and prior of that tested setting.
    """
    for name in presets_of(source):
        if _paper_config(name).method == "baseline" and _setting(name) == _setting(preset, shift):
            return _published_value(name, "student", source)
    return None


def _setting(preset: str, shift: str | None = None) -> tuple:
    """What a baseline depends on: the task without its teacher, the images, the prior."""
    config = _paper_config(preset).shifted(shift) if shift else _paper_config(preset)
    student = {name: value for name, value in vars(config.task).items() if not name.startswith("teacher")}
    return student, config.data.name, config.solver.prior


def _published_value(preset: str, quantity: str, source: str | None, shift: str | None = None) -> float | None:
    rows = published(preset, quantity, source, shift) if source else []
    return rows[0]["value"] if rows else None


# --- the pieces of a table --------------------------------------------------------------------------------------------


def group(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs by preset, seeds in order."""
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.config.seed):
        groups.setdefault(run.config.preset, []).append(run)
    return groups


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


def _tested(runs: Iterable[Run], role: str, metric: str, shift: str | None = None) -> list[float]:
    """One number of each run that has it, as trained or under a shift."""
    reports = [run.metrics.get("shifts", {}).get(shift, {}) if shift else run.metrics for run in runs]
    return [report[role][metric] for report in reports if metric in report.get(role, {})]


def _beside(paper: float | None, ours: Sequence[float]) -> tuple[str, str, str]:
    difference = "" if paper is None or not ours else f"{statistics.mean(ours) - paper:+.2f}"
    return _number(paper), mean_sd(ours), difference


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _digests(runs: Iterable[Run]) -> str:
    """The last part of the folders' names: the digest under which each run was made."""
    return ", ".join(f"`{run.path.name.rpartition('-')[2]}`" for run in runs)


# --- paper | ours -----------------------------------------------------------------------------------------------------


def paper_beside_ours(
    runs: Iterable[Run],
    presets: Sequence[str],
    baseline: float | None = None,
    source: str | None = None,
    *,
    metric: str = METRICS[0],
    extras: Sequence[str] = (),
) -> str:
    """Paper | ours | difference of the student's PSNR and of its gain over the baseline, and the runs behind ours.

    Cells that the papers do not print, or without a run here, are empty. The paper's gain is over the number that the
    same source prints for the same task, images and prior without a preconditioner (:func:`paper_baseline`).

    Args:
        runs: run folders; several of a preset are read as its seeds.
        presets: the rows, such as ``presets_of("D2GP Table I", "mri")``.
        baseline: a number to take the paper's gain over instead.
        source: the published table; by default each row takes the first that prints it, named in a column.
        metric: which PSNR is ours: one of ``METRICS``, for complex images ``psnr_batch_mse`` and ``psnr`` are over both
            channels and ``psnr_magnitude`` is of the modulus.
        extras: further columns: ``teacher`` (PSNR) and ``parameters`` (counts).
    """
    require_choice("metric", metric, METRICS)
    for name in extras:
        require_choice("extras", name, EXTRAS)
    groups = group(runs)
    rows = [_row(preset, groups.get(preset, []), baseline, source, metric, extras) for preset in presets]
    return markdown(_head(source, extras), rows)


def _head(source: str | None, extras: Sequence[str]) -> tuple[str, ...]:
    names = ("PSNR", "gain", *(["teacher"] if "teacher" in extras else []))
    compared = [cell for name in names for cell in (f"paper {name}", f"our {name}", "difference")]
    counts = ("paper parameters", "our parameters") if "parameters" in extras else ()
    return ("variant", *(() if source else ("source",)), *compared, *counts, "runs")


def _row(
    preset: str, runs: Sequence[Run], baseline: float | None, source: str | None, metric: str, extras: Sequence[str]
) -> tuple[str, ...]:
    place = source or next((row["source"] for row in published(preset)), None)
    cells = _student_cells(preset, runs, baseline, place, metric)
    if "teacher" in extras:
        cells += _beside(_published_value(preset, "teacher", place), _tested(runs, "teacher", metric))
    if "parameters" in extras:
        cells += _parameter_cells(_published_value(preset, "parameters", place), runs)
    return (describe(preset)["about"], *(() if source else (place or "",)), *cells, _digests(runs))


def _student_cells(preset: str, runs: Sequence[Run], baseline: float | None, source: str | None, metric: str) -> tuple[str, ...]:
    paper = _published_value(preset, "student", source)
    if baseline is None and paper is not None:
        baseline = paper_baseline(preset, source)
    paper_gain = None if paper is None or baseline is None else paper - baseline
    gains = [gain(run, metric) for run in runs if metric in run.metrics["student"]]
    return *_beside(paper, _tested(runs, "student", metric)), *_beside(paper_gain, gains)


def _parameter_cells(paper: float | None, runs: Sequence[Run]) -> tuple[str, str]:
    ours = [count for count in map(_parameters, runs) if count is not None]
    return "" if paper is None else short_count(paper), ", ".join(dict.fromkeys(map(short_count, ours)))


def _parameters(run: Run) -> int | None:
    """Trained numbers, where the manifest has them; for a polynomial its coefficients, as D2GP Table I counts."""
    if run.config.method == "polynomial":
        return run.config.preconditioner.degree + 1
    return run.manifest["counts"].get("parameters")


def shift_table(runs: Iterable[Run], presets: Sequence[str], source: str | None = None, *, metric: str = METRICS[0]) -> str:
    """One row per tested setting: the baseline there, and paper | ours | difference of each preset's student.

    The settings are the one of training and the presets' ``shifts`` (DIPA Tables 7 and 8). The baseline is that of the
    first preset and its runs. The last row names the runs. Without a ``source`` there are no numbers of a paper.
    """
    require_choice("metric", metric, METRICS)
    require(len(presets) > 0, "presets", presets, "at least one preset")
    groups = group(runs)
    mine = {preset: groups.get(preset, []) for preset in presets}
    settings = dict.fromkeys([None, *(shift for preset in presets for shift in resolve(preset).shifts)])
    rows = [_shift_row(mine, shift, source, metric) for shift in settings]
    behind = [cell for preset in presets for cell in ("", _digests(mine[preset]), "")]
    students = [cell for preset in presets for cell in (f"paper: {describe(preset)['about']}", "ours", "difference")]
    head = ("tested setting", "paper baseline", "our baseline", *students)
    return markdown(head, [*rows, ("runs", "", "", *behind)])


def _shift_row(mine: Mapping[str, Sequence[Run]], shift: str | None, source: str | None, metric: str) -> tuple[str, ...]:
    first = next(iter(mine))
    paper = paper_baseline(first, source, shift) if source else None
    cells = [_number(paper), mean_sd(_tested(mine[first], "baseline", metric, shift))]
    for preset, runs in mine.items():
        cells += _beside(_published_value(preset, "student", source, shift), _tested(runs, "student", metric, shift))
    return (shift or AS_TRAINED, *cells)


# --- ours alone -------------------------------------------------------------------------------------------------------

QUALITY = {
    "PSNR": ("psnr", 2),
    "PSNR (batch MSE)": ("psnr_batch_mse", 2),
    "PSNR (modulus)": ("psnr_magnitude", 2),
    "SSIM": ("ssim", 3),
}
AUDIT = {"residual": "residual", "error in range": "error_range", "error in null space": "error_null"}


def measured(runs: Iterable[Run], presets: Sequence[str]) -> str:
    """Everything measured of the student: PSNR conventions, SSIM, audit, training time. The PSNR of the modulus for MRI."""
    groups = group(runs)
    shown = [preset for preset in presets if preset in groups]
    held = {name for preset in shown for run in groups[preset] for name in run.metrics["student"]}
    quality = {label: key for label, key in QUALITY.items() if key[0] in held}
    head = ("variant", "seeds", *quality, *AUDIT, "training s")
    return markdown(head, [_measured_row(preset, groups[preset], quality.values()) for preset in shown])


def _measured_row(preset: str, runs: Sequence[Run], quality: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    cells = [mean_sd(_tested(runs, "student", name), digits) for name, digits in quality]
    audits = [mean_sd([run.metrics["student"]["audit"][name] for run in runs], 3) for name in AUDIT.values()]
    seconds = mean_sd([run.manifest["training_seconds"] for run in runs], 0)
    seeds = ", ".join(str(run.config.seed) for run in runs)
    return (describe(preset)["about"], seeds, *cells, *audits, seconds)


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
