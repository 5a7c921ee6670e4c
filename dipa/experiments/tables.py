"""Tables from run folders, as Markdown: the papers' numbers beside ours, never one in the place of the other."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence

from ..checks import require, require_choice
from .cells import beside, digests, gain, markdown, mean_sd, number, short_count, tested
from .listing import not_recorded, preset_table, profile_table
from .measured import differences, measured, provenance, reading, spectra_table
from .presets import describe, resolve
from .printed import contradictions, doubts, printed_psnr, readings, teacher_spreads
from .published import paper_baseline, paper_values, presets_of, published, published_value, shared_source
from .recorded import group
from .results import Run

__all__ = [
    "contradictions",
    "differences",
    "doubts",
    "gain",
    "group",
    "margins",
    "markdown",
    "mean_sd",
    "measured",
    "not_recorded",
    "paper_baseline",
    "paper_beside_ours",
    "paper_values",
    "preset_table",
    "presets_of",
    "printed_psnr",
    "profile_table",
    "provenance",
    "published",
    "reading",
    "readings",
    "shift_table",
    "short_count",
    "spectra_table",
    "teacher_spreads",
]

METRICS = ("psnr_batch_mse", "psnr", "psnr_magnitude")  # the first is the authors' convention
EXTRAS = ("teacher", "parameters")
AS_TRAINED = "as trained"


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
        cells += beside(published_value(preset, "teacher", place), tested(runs, "teacher", metric))
    if "parameters" in extras:
        cells += _parameter_cells(published_value(preset, "parameters", place), runs)
    return (describe(preset)["about"], *(() if source else (place or "",)), *cells, digests(runs))


def _student_cells(preset: str, runs: Sequence[Run], baseline: float | None, source: str | None, metric: str) -> tuple[str, ...]:
    paper = published_value(preset, "student", source)
    if baseline is None and paper is not None:
        baseline = paper_baseline(preset, source)
    paper_gain = None if paper is None or baseline is None else paper - baseline
    gains = [gain(run, metric) for run in runs if metric in run.metrics["student"]]
    return *beside(paper, tested(runs, "student", metric)), *beside(paper_gain, gains)


def _parameter_cells(paper: float | None, runs: Sequence[Run]) -> tuple[str, str]:
    ours = [count for count in map(_parameters, runs) if count is not None]
    return "" if paper is None else short_count(paper), ", ".join(dict.fromkeys(map(short_count, ours)))


def _parameters(run: Run) -> int | None:
    """Trained numbers, where the manifest has them; for a polynomial its coefficients, as D2GP Table I counts."""
    if run.config.method == "baseline":
        return 0
    if run.config.method == "polynomial":
        return run.config.preconditioner.degree + 1
    return run.manifest["counts"].get("parameters")


def margins(runs: Iterable[Run], pairs: Iterable[tuple[str, str]], *, metric: str = METRICS[0]) -> str:
    """How much better the student of one preset is than that of another, paper beside ours: what the papers argue with.

    One row per pair (better, than). The paper's margin is taken within the first source that prints both, else empty;
    ours is the difference of the means over seeds, empty where one is not recorded.
    """
    require_choice("metric", metric, METRICS)
    groups = group(runs)
    head = ("better", "than", "source", "paper margin", "our margin", "same sign")
    return markdown(head, [_margin_row(groups, *pair, metric) for pair in pairs])


def _margin_row(groups: Mapping[str, Sequence[Run]], better: str, than: str, metric: str) -> tuple[str, ...]:
    source = shared_source(better, than)
    printed = [published_value(name, "student", source) for name in (better, than)] if source else []
    found = [tested(groups.get(name, []), "student", metric) for name in (better, than)]
    paper = printed[0] - printed[1] if printed else None
    ours = statistics.mean(found[0]) - statistics.mean(found[1]) if all(found) else None
    signs = "" if paper is None or ours is None else ("yes" if paper * round(ours, 2) > 0 else "no")
    cells = ["" if value is None else f"{value:+.2f}" for value in (paper, ours)]
    return (describe(better)["about"], describe(than)["about"], source or "", *cells, signs)


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
    behind = [cell for preset in presets for cell in ("", digests(mine[preset]), "")]
    students = [cell for preset in presets for cell in (f"paper: {describe(preset)['about']}", "ours", "difference")]
    head = ("tested setting", "paper baseline", "our baseline", *students)
    return markdown(head, [*rows, ("runs", "", "", *behind)])


def _shift_row(mine: Mapping[str, Sequence[Run]], shift: str | None, source: str | None, metric: str) -> tuple[str, ...]:
    first = next(iter(mine))
    paper = paper_baseline(first, source, shift) if source else None
    cells = [number(paper), mean_sd(tested(mine[first], "baseline", metric, shift))]
    for preset, runs in mine.items():
        cells += beside(published_value(preset, "student", source, shift), tested(runs, "student", metric, shift))
    return (shift or AS_TRAINED, *cells)
