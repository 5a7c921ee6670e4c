"""Tables of this project's numbers alone: what was measured, with which settings, by which code."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from ..analysis import Spectra
from .cells import markdown, mean_sd, number, setting, tested
from .presets import describe
from .published import changed_settings
from .recorded import best, first, group, null_share
from .results import Run

QUALITY = {
    "PSNR": ("psnr", 2),
    "PSNR (batch MSE)": ("psnr_batch_mse", 2),
    "PSNR (modulus)": ("psnr_magnitude", 2),
    "SSIM": ("ssim", 3),
}
AUDIT = {"residual": "residual", "error in range": "error_range", "error in null space": "error_null"}


def measured(runs: Iterable[Run], presets: Sequence[str]) -> str:
    """Everything measured of the student: PSNR conventions, SSIM, audit, falsification test, precision, training time.

    The PSNR of the modulus for MRI. Presets without a run are left out.
    """
    groups = group(runs)
    shown = [preset for preset in presets if preset in groups]
    held = {name for preset in shown for run in groups[preset] for name in run.metrics["student"]}
    quality = {label: key for label, key in QUALITY.items() if key[0] in held}
    head = ("variant", "seeds", *quality, *AUDIT, "falsification test", "precision", "training s")
    return markdown(head, [_measured_row(preset, groups[preset], quality.values()) for preset in shown])


def _measured_row(preset: str, runs: Sequence[Run], quality: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    cells = [mean_sd(tested(runs, "student", name), digits) for name, digits in quality]
    audits = [mean_sd([run.metrics["student"]["audit"][name] for run in runs], 3) for name in AUDIT.values()]
    seconds = mean_sd([run.manifest["training_seconds"] for run in runs], 0)
    seeds = ", ".join(str(run.config.seed) for run in runs)
    tests = ", ".join(dict.fromkeys(filter(None, map(_falsification, runs))))
    precisions = ", ".join(dict.fromkeys(run.precision for run in runs))
    return (describe(preset)["about"], seeds, *cells, *audits, tests, precisions, seconds)


def spectra_table(found: Mapping[str, Spectra], stepsize: float, psnr: Mapping[str, float]) -> str:
    """One row per preconditioner: what :func:`dipa.analysis.spectra` found of it, and its PSNR; empty without one.

    The column before PSNR is what a plain step of ``stepsize`` leaves of the slowest error in the range.
    """
    left = "max $\\lvert 1-\\alpha\\lambda\\rvert$"
    head = ("P", "$\\kappa$ on the range", "largest of R", "rank of R", "largest of N", left, "PSNR (dB)")
    rows = []
    for name, spectra in found.items():
        kappa = "infinite" if math.isinf(spectra.condition_number) else f"{spectra.condition_number:.3g}"
        rank = f"{spectra.range_rank} of {len(spectra.range_values)}"
        range_block = f"{spectra.range_values.max():.2f}", rank
        null_block = f"{spectra.null_values.max():.2f}", f"{spectra.radius(stepsize):.3f}"
        rows.append((name, kappa, *range_block, *null_block, number(psnr.get(name))))
    return markdown(head, rows)


def _falsification(run: Run) -> str:
    """The verdict of the falsification test, with the checks that failed; nothing where it was not made."""
    found = run.metrics["student"].get("falsification")
    if not found:
        return ""
    failed = ", ".join(name.replace("_", " ") for name, held in found["checks"].items() if not held)
    return f"failed: {failed}" if failed else "passed"


def reading(runs: Iterable[Run], trained: Sequence[str], closed_form: str, baseline: str) -> str:
    """The best trained variant in words: its gain over baseline and closed form, where its error is, whether it still moved.

    First seeds. Nothing where the baseline, the closed form or every trained variant is not recorded.
    """
    found, top = first(runs, [baseline, closed_form]), best(runs, trained)
    if len(found) < 2 or top is None:
        return ""
    plain, untrained = (found[name].metrics["student"]["psnr"] for name in (baseline, closed_form))
    psnr, curve = top.metrics["student"]["psnr"], top.metrics["student"]["curve"]["psnr"]
    quarter = max((len(curve) - 1) // 4, 1)
    over = f"{psnr - plain:+.2f} dB over `{baseline}`, {psnr - untrained:+.2f} dB over the closed form `{closed_form}`"
    return (
        f"At seed {top.config.seed} the best trained variant is `{top.config.preset}` with {psnr:.2f} dB: {over}, which is not "
        f"trained. Of its squared error {100 * null_share(top):.1f} % lies in the null space of $H_s$, which the measurements "
        f"cannot correct. The last quarter of its iterations changed it by {curve[-1] - curve[-1 - quarter]:+.2f} dB."
    )


def provenance(runs: Iterable[Run]) -> str:
    """Which run made what: folder, commit, versions, device, precision of the networks, threads, seconds."""
    head = ("run", "commit", "torch", "deepinv", "device", "precision", "threads", "seconds")
    rows = []
    for run in runs:
        made = run.manifest
        commit = (made["commit"] or "")[:10] + (" (modified)" if made["dirty"] else "")
        versions = [made["versions"][name] for name in ("torch", "deepinv")]
        numbers = str(made["threads"]), f"{made['seconds']:.0f}"
        rows.append((f"`{run.path.name}`", commit, *versions, made["device"], run.precision, *numbers))
    return markdown(head, rows)


def differences(runs: Iterable[Run], presets: Sequence[str]) -> str:
    """Where the settings of the recorded runs are not the papers' (profile ``paper``), and in which runs.

    One row per setting and pair of values. Settings a method does not use are not compared; presets without a run are
    left out.
    """
    configs = {preset: run.config for preset, run in first(runs, presets).items()}
    found: dict[tuple[str, str, str], list[str]] = {}
    for preset, config in configs.items():
        for key, values in changed_settings(config).items():
            found.setdefault((key, *map(setting, values)), []).append(preset)
    groups = {"all": list(configs), "all that train": [name for name, config in configs.items() if config.trained]}
    keys = list(dict.fromkeys(key for key, _, _ in found))
    rows = [(f"`{key}`", theirs, ours, _those(held, groups)) for (key, theirs, ours), held in found.items()]
    rows.sort(key=lambda row: keys.index(row[0].strip("`")))  # what is said of one setting stands together
    return markdown(("setting", "profile `paper`", "here", "in"), rows)


def _those(held: Sequence[str], groups: Mapping[str, Sequence[str]]) -> str:
    """The name of the group that ``held`` is, else the presets one by one."""
    return next((name for name, group in groups.items() if held == group), ", ".join(f"`{preset}`" for preset in held))
