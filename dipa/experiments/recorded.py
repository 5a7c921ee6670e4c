"""What recorded runs hold, looked up for the tables and figures of a page; nothing is computed anew."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..checks import require
from .results import Run

PACKAGE = Path(__file__).resolve().parents[1]


def results_folder(topic: str = "") -> Path:
    """Where the recorded results are: of a checkout ``book/results``, else the slim copy that an installed package brings.

    ``topic`` names a folder in it, such as ``single_pixel`` or ``benchmarks``; without it, the folder of all topics. A
    folder that is not there holds no results: :func:`~dipa.experiments.find_runs` then finds none.
    """
    require(isinstance(topic, str), "topic", topic, "the name of a folder of recorded results")
    checkout = PACKAGE.parent / "book" / "results"
    return (checkout if (checkout / "records.yaml").is_file() else PACKAGE / "recorded") / topic


def of_preset(runs: Iterable[Run], preset: str) -> Run:
    """The first seed of one preset.

    Raises:
        InputError: it is not recorded here; the message says how to make it.
    """
    found = first(runs, [preset])
    require(preset in found, "recorded run", preset, f"one that is here; dipa run {preset} --profile small makes it")
    return found[preset]


def group(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """Runs by preset, seeds in order."""
    groups: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.config.seed):
        groups.setdefault(run.config.preset, []).append(run)
    return groups


def first(runs: Iterable[Run], presets: Sequence[str]) -> dict[str, Run]:
    """The first seed of each preset that is recorded, in the order of ``presets``."""
    groups = group(runs)
    return {preset: groups[preset][0] for preset in presets if preset in groups}


def best(runs: Iterable[Run], presets: Sequence[str], metric: str = "psnr") -> Run | None:
    """The run among the first seeds of ``presets`` whose student is best; None where none is recorded."""
    return max(first(runs, presets).values(), key=lambda run: run.metrics["student"][metric], default=None)


def curves(runs: Iterable[Run], presets: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Per-iteration curves (``psnr``, ``residual``, ``change``) of each preset's student, and of the teacher of the first."""
    found = first(runs, presets)
    if not found:
        return {}
    teacher = next(iter(found.values())).metrics["teacher"]["curve"]
    return {preset: run.metrics["student"]["curve"] for preset, run in found.items()} | {"teacher": teacher}


def long_residuals(runs: Iterable[Run], presets: Sequence[str]) -> dict[str, list[float]]:
    """The residual of each iteration of the falsification test, for the presets that were put to it."""
    tested = {preset: run.metrics["student"].get("falsification") for preset, run in first(runs, presets).items()}
    return {preset: found["residuals"] for preset, found in tested.items() if found}


def reconstructions(runs: Iterable[Run], presets: Sequence[str], index: int = 0) -> dict[str, np.ndarray]:
    """Test image ``index`` as planes (H, W): the truth, each preset's student, and the teacher of the first."""
    found = first(runs, presets)
    if not found:
        return {}
    truth, teacher = (plane(next(iter(found.values())).examples[name][index]) for name in ("truth", "teacher"))
    return {"truth": truth} | {preset: plane(_student(run)[index]) for preset, run in found.items()} | {"teacher": teacher}


def _student(run: Run) -> np.ndarray:
    """The student's images; those of the baseline where it is the student."""
    return run.examples["student" if "student" in run.examples else "baseline"]


def plane(image: np.ndarray) -> np.ndarray:
    """An image (C, H, W) as one plane (H, W): itself, or the modulus of two channels (real and imaginary part)."""
    return image[0] if len(image) == 1 else np.linalg.norm(image, axis=0)


def null_share(run: Run, role: str = "student") -> float:
    """The share of the squared error that lies in the null space of H, from the audit's means."""
    audit = run.metrics[role]["audit"]
    return audit["error_null"] ** 2 / (audit["error_null"] ** 2 + audit["error_range"] ** 2)
