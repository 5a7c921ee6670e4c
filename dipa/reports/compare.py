"""The papers beside this project: numbers and margins, never one in the place of the other, and
where settings differ.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..checks import require, require_choice
from ..experiments import Config, describe, profiles, resolve
from ..experiments.results import Run
from .markdown import decibels, mean_sd, setting_text, short_count, table
from .paper import paper_baseline, paper_config, published, published_value, shared_source
from .runs import by_preset, digests, first_seeds, gain, tested

METRICS = ("psnr_batch_mse", "psnr", "psnr_magnitude")  # the first is the authors' convention
EXTRAS = ("teacher", "parameters")
AS_TRAINED = "as trained"


# --- numbers --------------------------------------------------------------------------------------


def paper_beside_ours(
    runs: Iterable[Run],
    presets: Sequence[str],
    baseline: float | None = None,
    source: str | None = None,
    *,
    metric: str = METRICS[0],
    extras: Sequence[str] = (),
) -> str:
    """Paper | ours | difference of the student's PSNR and of its gain over the baseline, and the
    runs behind ours.

    Cells that the papers do not print, or without a run here, are empty. The paper's gain is over
    the number that the same source prints for the same task, images and prior without a
    preconditioner (:func:`~dipa.reports.paper.paper_baseline`).

    Args:
        runs: run folders; several of a preset are read as its seeds.
        presets: the rows, such as ``presets_of("D2GP Table I", "mri")``.
        baseline: a number to take the paper's gain over instead.
        source: the published table; by default each row takes the first that prints it, named in a
            column.
        metric: which PSNR is ours: one of ``METRICS``, for complex images ``psnr_batch_mse`` and
            ``psnr`` are over both channels and ``psnr_magnitude`` is of the modulus.
        extras: further columns: ``teacher`` (PSNR) and ``parameters`` (counts).

    Raises:
        InputError: another metric or another extra column.
    """
    require_choice("metric", metric, METRICS)
    for name in extras:
        require_choice("extras", name, EXTRAS)
    groups = by_preset(runs)
    rows = [
        _row(preset, groups.get(preset, []), baseline, source, metric, extras) for preset in presets
    ]
    return table(_head(source, extras), rows)


def _head(source: str | None, extras: Sequence[str]) -> tuple[str, ...]:
    names = ("PSNR", "gain", *(["teacher"] if "teacher" in extras else []))
    compared = [cell for name in names for cell in (f"paper {name}", f"our {name}", "difference")]
    counts = ("paper parameters", "our parameters") if "parameters" in extras else ()
    return ("variant", *(() if source else ("source",)), *compared, *counts, "runs")


def _row(
    preset: str,
    runs: Sequence[Run],
    baseline: float | None,
    source: str | None,
    metric: str,
    extras: Sequence[str],
) -> tuple[str, ...]:
    printed_in = source or next((row["source"] for row in published(preset)), None)
    row = _student_cells(preset, runs, baseline, printed_in, metric)
    if "teacher" in extras:
        row += _beside(
            published_value(preset, "teacher", printed_in), tested(runs, "teacher", metric)
        )
    if "parameters" in extras:
        row += _parameter_cells(published_value(preset, "parameters", printed_in), runs)
    return (
        describe(preset)["about"],
        *(() if source else (printed_in or "",)),
        *row,
        digests(runs),
    )


def _student_cells(
    preset: str, runs: Sequence[Run], baseline: float | None, source: str | None, metric: str
) -> tuple[str, ...]:
    paper = published_value(preset, "student", source)
    if baseline is None and paper is not None and source is not None:
        baseline = paper_baseline(preset, source)
    paper_gain = None if paper is None or baseline is None else paper - baseline
    gains = [gain(run, metric) for run in runs if metric in run.metrics["student"]]
    return *_beside(paper, tested(runs, "student", metric)), *_beside(paper_gain, gains)


def _parameter_cells(paper: float | None, runs: Sequence[Run]) -> tuple[str, str]:
    ours = [count for count in map(_parameters, runs) if count is not None]
    return "" if paper is None else short_count(paper), ", ".join(
        dict.fromkeys(map(short_count, ours))
    )


def _parameters(run: Run) -> int | None:
    """Trained numbers, where the manifest has them; for a polynomial its coefficients, as D2GP
    Table I counts.
    """
    if run.config.method == "baseline":
        return 0
    if run.config.method == "polynomial":
        return run.config.preconditioner.degree + 1
    return run.manifest["counts"].get("parameters")


def margins(
    runs: Iterable[Run], pairs: Iterable[tuple[str, str]], *, metric: str = METRICS[0]
) -> str:
    """How much better the student of one preset is than that of another, paper beside ours: what
    the papers argue with.

    One row per pair (better, than). The paper's margin is taken within the first source that prints
    both, else empty; ours is the difference of the means over seeds, empty where one is not
    recorded.

    Raises:
        InputError: a ``metric`` that is none of ``METRICS``.
    """
    require_choice("metric", metric, METRICS)
    groups = by_preset(runs)
    head = ("better", "than", "source", "paper margin", "our margin", "same sign")
    return table(head, [_margin_row(groups, *pair, metric) for pair in pairs])


def _margin_row(
    groups: Mapping[str, Sequence[Run]], better: str, than: str, metric: str
) -> tuple[str, ...]:
    source = shared_source(better, than)
    first, second = (published_value(name, "student", source) for name in (better, than))
    measured = [tested(groups.get(name, []), "student", metric) for name in (better, than)]
    paper = None if first is None or second is None else first - second
    ours = statistics.mean(measured[0]) - statistics.mean(measured[1]) if all(measured) else None
    signs = "" if paper is None or ours is None else ("yes" if paper * round(ours, 2) > 0 else "no")
    shown = ["" if value is None else f"{value:+.2f}" for value in (paper, ours)]
    return (describe(better)["about"], describe(than)["about"], source or "", *shown, signs)


def shift_table(
    runs: Iterable[Run],
    presets: Sequence[str],
    source: str | None = None,
    *,
    metric: str = METRICS[0],
) -> str:
    """One row per tested setting: the baseline there, and paper | ours | difference of each
    preset's student.

    The settings are the one of training and the presets' ``shifts`` (DIPA Tables 7 and 8). The
    baseline is that of the first preset and its runs. The last row names the runs. Without a
    ``source`` there are no columns of a paper.

    Raises:
        InputError: no preset, or a ``metric`` that is none of ``METRICS``.
    """
    require_choice("metric", metric, METRICS)
    require(len(presets) > 0, "presets", presets, "at least one preset")
    groups = by_preset(runs)
    recorded = {preset: groups.get(preset, []) for preset in presets}
    shifts = dict.fromkeys(
        [None, *(shift for preset in presets for shift in resolve(preset).shifts)]
    )
    rows = [_shift_row(recorded, shift, source, metric) for shift in shifts]
    head = ["tested setting", *(("paper baseline", "our baseline") if source else ("baseline",))]
    last = ["runs", *[""] * (len(head) - 1)]
    for preset in presets:
        about, digest = describe(preset)["about"], digests(recorded[preset])
        head += [f"paper: {about}", "ours", "difference"] if source else [about]
        last += ["", digest, ""] if source else [digest]
    return table(head, [*rows, last])


def _shift_row(
    recorded: Mapping[str, Sequence[Run]], shift: str | None, source: str | None, metric: str
) -> tuple[str, ...]:
    first = next(iter(recorded))
    row = [decibels(paper_baseline(first, source, shift))] if source else []
    row.append(mean_sd(tested(recorded[first], "baseline", metric, shift)))
    for preset, runs in recorded.items():
        paper = published_value(preset, "student", source, shift)
        ours = tested(runs, "student", metric, shift)
        row += _beside(paper, ours) if source else (mean_sd(ours),)
    return (shift or AS_TRAINED, *row)


def _beside(paper: float | None, ours: Sequence[float]) -> tuple[str, str, str]:
    """Paper, ours (mean and spread), and ours minus paper; empty where one is not known."""
    difference = "" if paper is None or not ours else f"{statistics.mean(ours) - paper:+.2f}"
    return decibels(paper), mean_sd(ours), difference


# --- settings -------------------------------------------------------------------------------------


def images_table(output: Mapping[str, Any]) -> str:
    """PSNR on images of several kinds, without P, with it always and with it as it knows them, as a
    Markdown table, from the output of ``benchmarks/other_images.py``.
    """
    head = ("images", "without P (dB)", "P always (dB)", "P as it knows (dB)", "left out for")
    names = ("plain", "always", "as it knows")
    rows = [
        (kind, *(decibels(row[name]) for name in names), f"{row['untrusted']} of {row['images']}")
        for kind, row in output["kinds"].items()
    ]
    return table(head, rows)


def differences(runs: Iterable[Run], presets: Iterable[str]) -> str:
    """Where the settings of the recorded runs are not the papers' (profile ``paper``), and in which
    runs.

    One row per setting and pair of values. Settings a method does not use are not compared; presets
    without a run are left out.
    """
    configs = {preset: run.config for preset, run in first_seeds(runs, presets).items()}
    # what is said of one setting stands together
    changes: dict[str, dict[tuple[str, str], list[str]]] = {}
    for preset, config in configs.items():
        for key, values in changed_settings(config).items():
            theirs, ours = map(setting_text, values)
            changes.setdefault(key, {}).setdefault((theirs, ours), []).append(preset)
    groups = {
        "all": list(configs),
        "all that train": [name for name, config in configs.items() if config.trained],
    }
    rows = [
        (f"`{key}`", *pair, _those(names, groups))
        for key, pairs in changes.items()
        for pair, names in pairs.items()
    ]
    return table(("setting", "profile `paper`", "here", "in"), rows)


def _those(presets: Sequence[str], groups: Mapping[str, Sequence[str]]) -> str:
    """The name of the group that ``presets`` are, else the presets one by one."""
    return next(
        (name for name, group in groups.items() if presets == group),
        ", ".join(f"`{preset}`" for preset in presets),
    )


def profile_table(preset: str) -> str:
    """The settings of a preset that are not the same in every profile, a column per profile."""
    columns = {name: settings(resolve(preset, name)) for name in profiles()}
    keys = dict.fromkeys(key for values in columns.values() for key in values)
    texts = {
        key: [setting_text(values.get(key, "")) for values in columns.values()] for key in keys
    }
    return table(
        ("setting", *columns),
        [(f"`{key}`", *values) for key, values in texts.items() if len(set(values)) > 1],
    )


def changed_settings(config: Config) -> dict[str, tuple[Any, Any]]:
    """Where a run's settings are not those of profile ``paper``: ``{"data.name": (papers', the
    run's), ...}``.

    Settings as in :func:`settings`.
    """
    theirs, ours = (settings(each) for each in (paper_config(config.preset), config))
    return {
        key: (theirs[key], ours[key]) for key in ours if key in theirs and theirs[key] != ours[key]
    }


def settings(config: Config) -> dict[str, Any]:
    """The settings that decide the numbers of the configured method, by dotted names.

    ``training.images`` stands for the number of steps: the images that training looks at, steps
    times batch.
    """
    sections, unused = asdict(config), {"training.checkpoint_every", "training.steps"}
    unused |= set() if config.closed_form else {"data.ridge_count"}
    used = {
        f"{section}.{key}": value
        for section in _sections(config)
        for key, value in sections[section].items()
    }
    if config.trained:
        used["training.images"] = config.image_steps
    return {key: value for key, value in used.items() if key not in unused}


def _sections(config: Config) -> list[str]:
    """The sections of a configuration that its method reads."""
    return [
        "task",
        "data",
        "solver",
        *config.recipe.sections,
        *(["variations"] if config.variations.active else []),
        *(["losses", "training"] if config.trained else []),
    ]
