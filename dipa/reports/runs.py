"""What recorded runs hold: looked up among the runs, and as tables of this project's numbers
alone; nothing is computed anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..analysis import Spectra
from ..checks import require
from ..experiments import describe
from ..experiments.results import Run
from .markdown import commit_text, decibels, mean_sd, table

QUALITY = {
    "PSNR": ("psnr", 2),
    "PSNR (batch MSE)": ("psnr_batch_mse", 2),
    "PSNR (modulus)": ("psnr_magnitude", 2),
    "SSIM": ("ssim", 3),
}
AUDIT = {
    "residual": "residual",
    "error in range": "error_range",
    "error in null space": "error_null",
}
SYMBOLS = {
    "supervised": "L_S",
    "imitation": "L_I",
    "gradient": "L_G",
    "convergence": "R",
    "row_space": "N",
    "data_fidelity": "g",
}


# --- lookups --------------------------------------------------------------------------------------


def by_preset(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs by preset, seeds in order."""
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.config.seed):
        groups.setdefault(run.config.preset, []).append(run)
    return groups


def first_seeds(runs: Iterable[Run], presets: Iterable[str]) -> dict[str, Run]:
    """The first seed of each preset that is recorded, in the order of ``presets``."""
    groups = by_preset(runs)
    return {preset: groups[preset][0] for preset in presets if preset in groups}


def run_of(runs: Iterable[Run], preset: str) -> Run:
    """The first seed of one preset.

    Raises:
        InputError: it is not recorded here; the message says how to make it.
    """
    first = first_seeds(runs, [preset])
    require(
        preset in first,
        "recorded run",
        preset,
        f"one that is here; dipa run {preset} --profile small makes it",
    )
    return first[preset]


def best_run(runs: Iterable[Run], presets: Sequence[str], metric: str = "psnr") -> Run | None:
    """The run among the first seeds of ``presets`` whose student is best; None where none is
    recorded.
    """
    return max(
        first_seeds(runs, presets).values(),
        key=lambda run: run.metrics["student"][metric],
        default=None,
    )


def gain(run: Run, metric: str = "psnr") -> float:
    """Student minus the baseline of the same run (same images, solver and start), in dB."""
    return run.metrics["student"][metric] - run.metrics["baseline"][metric]


def tested(runs: Iterable[Run], role: str, metric: str, shift: str | None = None) -> list[float]:
    """One number of each run that has it, as trained or under a shift; ``role`` is baseline,
    student or teacher.
    """
    reports = [
        run.metrics.get("shifts", {}).get(shift, {}) if shift else run.metrics for run in runs
    ]
    return [report[role][metric] for report in reports if metric in report.get(role, {})]


def null_share(run: Run, role: str = "student") -> float:
    """The share of the squared error that lies in the null space of H, from the audit's means."""
    audit = run.metrics[role]["audit"]
    return audit["error_null"] ** 2 / (audit["error_null"] ** 2 + audit["error_range"] ** 2)


def digests(runs: Iterable[Run]) -> str:
    """The digest under which each run was made, the last part of its folder's name, and the
    precision it computed in.
    """
    return ", ".join(f"`{run.path.name.rpartition('-')[2]}` {run.precision}" for run in runs)


def curves(runs: Iterable[Run], presets: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Per-iteration curves (``psnr``, ``residual``, ``change``) of each preset's student, and
    of the teacher of the first.
    """
    first = first_seeds(runs, presets)
    if not first:
        return {}
    teacher = next(iter(first.values())).metrics["teacher"]["curve"]
    return {preset: run.metrics["student"]["curve"] for preset, run in first.items()} | {
        "teacher": teacher
    }


def long_residuals(runs: Iterable[Run], presets: Sequence[str]) -> dict[str, list[float]]:
    """The residual of each iteration of the falsification test, for the presets that were put
    to it.
    """
    tests = {
        preset: run.metrics["student"].get("falsification")
        for preset, run in first_seeds(runs, presets).items()
    }
    return {preset: test["residuals"] for preset, test in tests.items() if test}


def reconstructions(
    runs: Iterable[Run], presets: Sequence[str], index: int = 0
) -> dict[str, np.ndarray]:
    """Test image ``index`` as planes (H, W): the truth, each preset's student, and the teacher
    of the first.
    """
    first = first_seeds(runs, presets)
    if not first:
        return {}
    truth, teacher = (
        plane(next(iter(first.values())).examples[name][index]) for name in ("truth", "teacher")
    )
    return (
        {"truth": truth}
        | {preset: plane(_student(run)[index]) for preset, run in first.items()}
        | {"teacher": teacher}
    )


def _student(run: Run) -> np.ndarray:
    """The student's images; those of the baseline where it is the student."""
    return run.examples["student" if "student" in run.examples else "baseline"]


def plane(image: np.ndarray) -> np.ndarray:
    """An image (C, H, W) as one plane (H, W): itself, or the modulus of two channels (real and
    imaginary part).
    """
    return image[0] if len(image) == 1 else np.linalg.norm(image, axis=0)


# --- tables ---------------------------------------------------------------------------------------


def measured(runs: Iterable[Run], presets: Iterable[str]) -> str:
    """Everything measured of the student: PSNR conventions, SSIM, audit, falsification test,
    precision, training time.

    The PSNR of the modulus for MRI. Presets without a run are left out.
    """
    groups = by_preset(runs)
    shown = [preset for preset in presets if preset in groups]
    metrics = {
        name for preset in shown for run in groups[preset] for name in run.metrics["student"]
    }
    quality = {label: key for label, key in QUALITY.items() if key[0] in metrics}
    head = ("variant", "seeds", *quality, *AUDIT, "falsification test", "precision", "training s")
    return table(
        head, [_measured_row(preset, groups[preset], quality.values()) for preset in shown]
    )


def _measured_row(
    preset: str, runs: Sequence[Run], quality: Iterable[tuple[str, int]]
) -> tuple[str, ...]:
    numbers = [mean_sd(tested(runs, "student", name), digits) for name, digits in quality]
    audits = [
        mean_sd([run.metrics["student"]["audit"][name] for run in runs], 3)
        for name in AUDIT.values()
    ]
    verdicts = ", ".join(dict.fromkeys(filter(None, map(_falsification, runs))))
    precisions = ", ".join(dict.fromkeys(run.precision for run in runs))
    seconds = mean_sd([run.manifest["training_seconds"] for run in runs], 0)
    return (
        describe(preset)["about"],
        _seeds(runs),
        *numbers,
        *audits,
        verdicts,
        precisions,
        seconds,
    )


def _seeds(runs: Iterable[Run]) -> str:
    return ", ".join(str(run.config.seed) for run in runs)


def _falsification(run: Run) -> str:
    """The verdict of the falsification test, with the checks that failed; nothing where it was
    not made.
    """
    test = run.metrics["student"].get("falsification")
    if not test:
        return ""
    failed = ", ".join(name.replace("_", " ") for name, held in test["checks"].items() if not held)
    return f"failed: {failed}" if failed else "passed"


def not_recorded(runs: Iterable[Run], presets: Iterable[str]) -> str:
    """One sentence that names the presets among ``presets`` that no run is of, each once."""
    groups = by_preset(runs)
    missing = [f"`{name}`" for name in dict.fromkeys(presets) if name not in groups]
    return f"Not recorded: {', '.join(missing) or 'none of these is missing'}."


def best_in_words(
    runs: Iterable[Run], trained: Sequence[str], closed_form: str, baseline: str
) -> str:
    """The best trained variant: its gain over baseline and closed form, where its error is, whether
    it still moved.

    First seeds. Nothing where the baseline, the closed form or every trained variant is not
    recorded.
    """
    untrained, best = first_seeds(runs, [baseline, closed_form]), best_run(runs, trained)
    if len(untrained) < 2 or best is None:
        return ""
    plain, closed = (untrained[name].metrics["student"]["psnr"] for name in (baseline, closed_form))
    psnr, curve = best.metrics["student"]["psnr"], best.metrics["student"]["curve"]["psnr"]
    quarter = max((len(curve) - 1) // 4, 1)
    over = (
        f"{psnr - plain:+.2f} dB over `{baseline}`, {psnr - closed:+.2f} dB over the closed "
        f"form `{closed_form}`"
    )
    return (
        f"At seed {best.config.seed} the best trained variant is `{best.config.preset}` "
        f"with {psnr:.2f} dB: {over}, which is not "
        f"trained. Of its squared error {100 * null_share(best):.1f} % lies in the null "
        f"space of $H_s$, which the measurements "
        f"cannot correct. The last quarter of its iterations changed it by "
        f"{curve[-1] - curve[-1 - quarter]:+.2f} dB."
    )


def provenance(runs: Iterable[Run]) -> str:
    """Which run made what: folder, commit, versions, device, precision of the networks,
    threads, seconds.
    """
    head = ("run", "commit", "torch", "deepinv", "device", "precision", "threads", "seconds")
    rows = []
    for run in runs:
        manifest = run.manifest
        versions = [manifest["versions"][name] for name in ("torch", "deepinv")]
        numbers = str(manifest["threads"]), f"{manifest['seconds']:.0f}"
        rows.append(
            (
                f"`{run.path.name}`",
                commit_text(manifest),
                *versions,
                manifest["device"],
                run.precision,
                *numbers,
            )
        )
    return table(head, rows)


def phases_table(runs: Iterable[Run]) -> str:
    """What each run was trained through and what it reached, as a Markdown table: parameters,
    images through one iteration and through the whole solve, minutes of training, PSNR by both
    conventions.
    """
    images = ("images, one iteration", "images, whole solve")
    quality = ("PSNR (dB)", "PSNR of the batch MSE (dB)")
    head = ("run", "parameters", *images, "minutes", *quality)
    return table(head, [_phases_row(run) for run in runs])


def _phases_row(run: Run) -> tuple[str, ...]:
    config, counts, numbers = run.config, run.manifest["counts"], run.metrics["student"]
    images = {True: 0, False: 0}
    for phase in config.plan if config.trained else ():
        alone = phase.length(config.solver.iterations) == 1
        images[alone] += phase.budget.steps * phase.budget.batch_size
    return (
        f"`{config.preset}`, seed {config.seed}",
        f"{counts['parameters']:,}" if config.trained else "-",
        *(f"{images[alone]:,}" if images[alone] else "-" for alone in (True, False)),
        f"{run.manifest['training_seconds'] / 60:.0f}" if config.trained else "-",
        f"{numbers['psnr']:.2f}",
        f"{numbers['psnr_batch_mse']:.2f}",
    )


def spectra_table(
    spectra: Mapping[str, Spectra], stepsize: float, psnr: Mapping[str, float]
) -> str:
    """One row per preconditioner: what :func:`dipa.analysis.spectra` says of it, and its PSNR;
    empty without one.

    The column before PSNR is what a plain step of ``stepsize`` leaves of the slowest error in the
    range.
    """
    left = "max $\\lvert 1-\\alpha\\lambda\\rvert$"
    head = (
        "P",
        "$\\kappa$ on the range",
        "largest of R",
        "rank of R",
        "largest of N",
        left,
        "PSNR (dB)",
    )
    rows = []
    for name, of_p in spectra.items():
        kappa = "infinite" if math.isinf(of_p.condition_number) else f"{of_p.condition_number:.3g}"
        range_block = (
            f"{of_p.range_values.max():.2f}",
            f"{of_p.range_rank} of {len(of_p.range_values)}",
        )
        null_block = f"{of_p.null_values.max():.2f}", f"{of_p.radius(stepsize):.3f}"
        rows.append((name, kappa, *range_block, *null_block, decibels(psnr.get(name))))
    return table(head, rows)


def preset_table(presets: Iterable[Mapping[str, Any]], runs: Iterable[Run] = ()) -> str:
    """One row per preset as :func:`~dipa.experiments.describe` gives it, with its recorded seeds
    and what it costs.

    Seconds of profile ``smoke`` are those that ``describe`` gives, of ``small`` those of the first
    recorded run.
    """
    groups = by_preset(runs)
    rows = []
    for row in presets:
        recorded = groups.get(row["name"], [])
        seconds = (
            row["profile_seconds"]["smoke"],
            recorded[0].manifest["seconds"] if recorded else None,
        )
        costs = ["" if value is None else f"{value:.0f}" for value in seconds]
        about = (
            f"`{row['name']}`",
            row["about"],
            _place(row),
            row["method"],
            row["prior"],
            _loss(row),
        )
        rows.append((*about, _seeds(recorded), *costs))
    return table(
        (
            "preset",
            "about",
            "where",
            "method",
            "prior",
            "loss",
            "recorded seeds",
            "smoke s",
            "small s",
        ),
        rows,
    )


def _place(row: Mapping[str, Any]) -> str:
    """The table or figure with its paper; what it is for where no paper has it."""
    named = row["paper"] == "project" or row["table"].startswith("D2GP ")
    return row["table"] if named else f"{row['paper']} {row['table']}"


def _loss(row: Mapping[str, Any]) -> str:
    """The terms of the loss as symbols."""
    terms = " + ".join(SYMBOLS[name] for name in row["loss"].split(" + ") if name != "none")
    return f"${terms}$" if terms else ""
