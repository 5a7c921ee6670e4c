"""What the papers print: their numbers with sources, their baselines, and what their tables say
when read against each other.

Everything comes from ``paper_values.yaml``; nothing here is a number of this project.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import cache
from pathlib import Path
from typing import TypeVar

from ..checks import require_choice
from ..experiments import Config, describe, resolve
from ..experiments.tasks import Task
from ..files import read_yaml
from .markdown import decibels, table

# so begins a note that says how a number is printed, not what does not fit
Key = TypeVar("Key", bound=Hashable)
FORMAT_NOTE = "printed "


@cache
def _values() -> tuple[dict, ...]:
    return tuple(read_yaml(Path(__file__).parent / "paper_values.yaml"))


@cache
def paper_config(preset: str) -> Config:
    """The settings the papers ran a preset with, as this project reads them: profile ``paper``."""
    return resolve(preset, "paper")


def paper_values() -> list[dict]:
    """The published numbers this project compares with, each with its source, the reading of
    what the text lost, and doubts.
    """
    return [dict(row) for row in _values()]


def published(
    preset: str, quantity: str = "student", source: str | None = None, shift: str | None = None
) -> list[dict]:
    """The published values of a preset, of one source or of all.

    ``quantity`` is ``student`` (the PSNR of the row), ``teacher``, ``parameters`` or
    ``parameter_ratio``; ``shift`` the tested setting where it is not the one of training.
    """
    wanted = (preset, quantity, shift)
    rows = [
        dict(row)
        for row in _values()
        if (row["preset"], row["quantity"], row.get("shift")) == wanted
    ]
    return [row for row in rows if source is None or row["source"] == source]


def published_value(
    preset: str, quantity: str, source: str | None, shift: str | None = None
) -> float | None:
    """The one value of a source; None without a source, or where it prints no such number."""
    rows = published(preset, quantity, source, shift) if source else []
    return rows[0]["value"] if rows else None


def shared_source(first: str, second: str) -> str | None:
    """The first source that prints the PSNR of both presets, so that the two may be subtracted;
    None where none does.
    """
    others = {row["source"] for row in published(second)}
    return next((row["source"] for row in published(first) if row["source"] in others), None)


def presets_of(source: str, task: str | None = None) -> list[str]:
    """The presets whose rows a source prints (``"D2GP Table I"``, ``"DIPA Table 2"``), of one task
    or of all, in its order.

    Raises:
        InputError: a source of which no number is kept.
    """
    require_choice("source", source, dict.fromkeys(row["source"] for row in _values()))
    names = dict.fromkeys(row["preset"] for row in _values() if row["source"] == source)
    return [name for name in names if task in (None, paper_config(name).task.kind)]


def paper_baseline(preset: str, source: str, shift: str | None = None) -> float | None:
    """What ``source`` prints without a preconditioner for the images, student operator and prior of
    a preset's row.

    None where it prints no such number. For a ``shift``, the operator and prior of that tested
    setting.
    """
    for name in presets_of(source):
        if paper_config(name).method == "baseline" and _problem(name) == _problem(preset, shift):
            return published_value(name, "student", source)
    return None


def paper_gain(preset: str, source: str) -> float | None:
    """The PSNR ``source`` prints for ``preset`` minus that of the baseline it is compared with,
    in dB; None without both.
    """
    value, baseline = published_value(preset, "student", source), paper_baseline(preset, source)
    return None if value is None or baseline is None else value - baseline


def _problem(preset: str, shift: str | None = None) -> tuple:
    """What a baseline depends on: the task without its teacher, the images, the prior."""
    config = paper_config(preset).shifted(shift) if shift else paper_config(preset)
    student = {
        name: value for name, value in vars(config.task).items() if not name.startswith("teacher")
    }
    return student, config.data.name, config.solver.prior


# --- the printed tables read against each other ---------------------------------------------------


def printed_psnr(presets: Iterable[str], source: str | None = None) -> str:
    """The PSNR that one source, or each that has it, prints for the rows of these presets."""
    rows = [
        (
            _task(row["preset"]),
            describe(row["preset"])["about"],
            row["source"],
            decibels(row["value"]),
        )
        for preset in presets
        for row in published(preset, source=source)
    ]
    return table(("task", "row", "source", "PSNR (dB)"), rows)


def contradictions() -> str:
    """Cells that several tables print with different values: the task, the row, the quantity,
    each value with its sources.
    """
    rows = []
    for (preset, quantity, _), printed in _grouped(
        lambda row: (row["preset"], row["quantity"], row.get("shift"))
    ).items():
        sources: dict[float, list[str]] = {}
        for row in printed:
            sources.setdefault(row["value"], []).append(row["source"])
        if len(sources) > 1:
            versions = "; ".join(
                f"{value:.2f} ({', '.join(named)})" for value, named in sources.items()
            )
            rows.append((_task(preset), describe(preset)["about"], quantity, versions))
    return table(("task", "row", "quantity", "printed"), rows)


def teacher_spreads() -> str:
    """Teachers that one table prints several times with different values, and the largest
    difference.

    A teacher has no P and is not trained: within a table its task (with its own operator), prior
    and images decide it.
    """
    teachers = _grouped(_teacher, lambda row: row["quantity"] == "teacher")
    rows = []
    for (source, task, prior, _), printed in teachers.items():
        values = [row["value"] for row in printed]
        if len(set(values)) > 1:
            listed, spread = ", ".join(map(decibels, values)), decibels(max(values) - min(values))
            rows.append((source, f"{prior.upper()}, {_strength(task)}", listed, spread))
    return table(("source", "teacher", "printed", "spread (dB)"), rows)


def doubts() -> str:
    """Numbers with a note on what does not fit, rows with the same note together; not notes on
    how a number is printed.
    """
    noted = _grouped(
        lambda row: (row["source"], row["quantity"], row["note"]),
        lambda row: "note" in row and not row["note"].startswith(FORMAT_NOTE),
    )
    rows = []
    for (source, quantity, note), printed in noted.items():
        about = "; ".join(dict.fromkeys(describe(row["preset"])["about"] for row in printed))
        rows.append(
            (
                source,
                about,
                quantity,
                ", ".join(dict.fromkeys(decibels(row["value"]) for row in printed)),
                note,
            )
        )
    return table(("source", "row", "quantity", "printed", "what does not fit"), rows)


def readings() -> str:
    """How what the text lost was read, in which tables, and how many numbers rest on it; the
    last row is their sum.
    """
    groups = _grouped(lambda row: row["reading"], lambda row: "reading" in row)
    rows = [
        (reading, ", ".join(dict.fromkeys(row["source"] for row in printed)), str(len(printed)))
        for reading, printed in groups.items()
    ]
    total = sum(map(len, groups.values()))
    return table(
        ("reading", "source", "numbers"), [*rows, ("all", "", f"{total} of {len(_values())}")]
    )


def _grouped(
    key: Callable[[dict], Key], kept: Callable[[dict], bool] = lambda row: True
) -> dict[Key, list[dict]]:
    """The published rows that are ``kept``, by ``key``, both in the order of the file."""
    groups: dict[Key, list[dict]] = {}
    for row in filter(kept, _values()):
        groups.setdefault(key(row), []).append(row)
    return groups


def _teacher(row: dict) -> tuple:
    """The table, and what the number of a teacher depends on."""
    config = paper_config(row["preset"])
    return row["source"], config.task, config.solver.prior, config.data.name


def _strength(task: Task) -> str:
    """The teacher's setting, as the papers name it."""
    name, setting = {
        "single_pixel": ("ratio", "teacher_ratio"),
        "mri": ("AF", "teacher_acceleration"),
        "super_resolution": ("RF", "teacher_factor"),
    }[task.kind]
    return f"{name} {getattr(task, setting):g}"


def _task(preset: str) -> str:
    return describe(preset)["task"].replace("_", " ")
