"""What the papers' tables say when they are read against each other, as Markdown: contradictions, spreads, doubts, readings.

Everything is listed from ``paper_values.yaml``; nothing here is a number of this project.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from .cells import markdown, number
from .presets import describe, resolve
from .published import paper_values, published
from .tasks import Task

FORMAT_NOTE = "printed "  # so begins a note that says how a number is printed, not what does not fit


def printed_psnr(presets: Iterable[str], source: str | None = None) -> str:
    """The PSNR that one source, or each that has it, prints for the rows of these presets."""
    rows = [
        (_task(row["preset"]), describe(row["preset"])["about"], row["source"], number(row["value"]))
        for preset in presets
        for row in published(preset, source=source)
    ]
    return markdown(("task", "row", "source", "PSNR (dB)"), rows)


def contradictions() -> str:
    """Cells that several tables print with different values: the task, the row, the quantity, each value with its sources."""
    rows = []
    for (preset, quantity, _), cells in _grouped(lambda row: (row["preset"], row["quantity"], row.get("shift"))).items():
        sources: dict[float, list[str]] = {}
        for row in cells:
            sources.setdefault(row["value"], []).append(row["source"])
        if len(sources) > 1:
            versions = "; ".join(f"{value:.2f} ({', '.join(named)})" for value, named in sources.items())
            rows.append((_task(preset), describe(preset)["about"], quantity, versions))
    return markdown(("task", "row", "quantity", "printed"), rows)


def teacher_spreads() -> str:
    """Teachers that one table prints several times with different values, and the largest difference.

    A teacher has no P and is not trained: within a table its task (with its own operator), prior and images decide it.
    """
    teachers = _grouped(_teacher, lambda row: row["quantity"] == "teacher")
    rows = []
    for (source, task, prior, _), cells in teachers.items():
        values = [row["value"] for row in cells]
        if len(set(values)) > 1:
            printed, spread = ", ".join(map(number, values)), number(max(values) - min(values))
            rows.append((source, f"{prior.upper()}, {_strength(task)}", printed, spread))
    return markdown(("source", "teacher", "printed", "spread (dB)"), rows)


def doubts() -> str:
    """Numbers with a note on what does not fit, rows with the same note together; not notes on how a number is printed."""
    noted = _grouped(
        lambda row: (row["source"], row["quantity"], row["note"]),
        lambda row: "note" in row and not row["note"].startswith(FORMAT_NOTE),
    )
    rows = []
    for (source, quantity, note), cells in noted.items():
        about = "; ".join(dict.fromkeys(describe(row["preset"])["about"] for row in cells))
        rows.append((source, about, quantity, ", ".join(dict.fromkeys(number(row["value"]) for row in cells)), note))
    return markdown(("source", "row", "quantity", "printed", "what does not fit"), rows)


def readings() -> str:
    """How what the text lost was read, in which tables, and how many numbers rest on it; the last row is their sum."""
    found = _grouped(lambda row: row["reading"], lambda row: "reading" in row)
    rows = [
        (reading, ", ".join(dict.fromkeys(row["source"] for row in cells)), str(len(cells))) for reading, cells in found.items()
    ]
    total = sum(len(cells) for cells in found.values())
    return markdown(("reading", "source", "numbers"), [*rows, ("all", "", f"{total} of {len(paper_values())}")])


def _grouped(key: Callable[[dict], Hashable], kept: Callable[[dict], bool] = lambda row: True) -> dict[Hashable, list[dict]]:
    """The published rows that are ``kept``, by ``key``, both in the order of the file."""
    groups: dict[Hashable, list[dict]] = {}
    for row in filter(kept, paper_values()):
        groups.setdefault(key(row), []).append(row)
    return groups


def _teacher(row: dict) -> tuple:
    """The table, and what the number of a teacher depends on."""
    config = resolve(row["preset"], "paper")
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
