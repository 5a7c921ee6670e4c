"""What the papers print and how they ran: their numbers with sources, their baselines, their settings beside a run's."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from ..checks import require_choice
from ..documents import read_yaml
from .config import Config
from .presets import resolve


@cache
def _values() -> tuple[dict, ...]:
    return tuple(read_yaml(Path(__file__).parent / "paper_values.yaml"))


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


def published_value(preset: str, quantity: str, source: str | None, shift: str | None = None) -> float | None:
    """The one value of a source; None without a source, or where it prints no such number."""
    rows = published(preset, quantity, source, shift) if source else []
    return rows[0]["value"] if rows else None


def shared_source(first: str, second: str) -> str | None:
    """The first source that prints the PSNR of both presets, so that the two may be subtracted; None where none does."""
    others = {row["source"] for row in published(second)}
    return next((row["source"] for row in published(first) if row["source"] in others), None)


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
            return published_value(name, "student", source)
    return None


def paper_gain(preset: str, source: str) -> float | None:
    """The PSNR ``source`` prints for ``preset`` minus that of the baseline it is compared with, in dB; None without both."""
    value, baseline = published_value(preset, "student", source), paper_baseline(preset, source)
    return None if value is None or baseline is None else value - baseline


def _setting(preset: str, shift: str | None = None) -> tuple:
    """What a baseline depends on: the task without its teacher, the images, the prior."""
    config = _paper_config(preset).shifted(shift) if shift else _paper_config(preset)
    student = {name: value for name, value in vars(config.task).items() if not name.startswith("teacher")}
    return student, config.data.name, config.solver.prior


def changed_settings(config: Config) -> dict[str, tuple[Any, Any]]:
    """Where a run's settings are not those of profile ``paper``: ``{"data.name": (papers', the run's), ...}``.

    Settings as in :func:`settings`.
    """
    theirs, ours = (settings(each) for each in (_paper_config(config.preset), config))
    return {key: (theirs[key], ours[key]) for key in ours if key in theirs and theirs[key] != ours[key]}


def settings(config: Config) -> dict[str, Any]:
    """The settings that decide the numbers of the configured method, by dotted names.

    ``training.images`` stands for the number of steps: the images that training looks at, steps times batch.
    """
    sections, unused = asdict(config), {"training.checkpoint_every", "training.steps"}
    unused |= set() if _closed_form(config) else {"data.ridge_count"}
    found = {f"{section}.{key}": value for section in _used(config) for key, value in sections[section].items()}
    if config.trained:
        found["training.images"] = config.training.steps * config.training.batch_size
    return {key: value for key, value in found.items() if key not in unused}


def _used(config: Config) -> list[str]:
    return ["task", "data", "solver", *config.recipe.sections, *(["losses", "training"] if config.trained else [])]


def _closed_form(config: Config) -> bool:
    linear = "preconditioner" in config.recipe.sections
    return config.method == "ridge" or (linear and config.trained and config.preconditioner.start == "ridge")
