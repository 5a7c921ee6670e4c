"""Tables of what there is to run: presets with their recorded runs, and what each profile makes of one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .cells import markdown, setting
from .presets import profiles, resolve
from .published import settings
from .recorded import group
from .results import Run

SYMBOLS = {"supervised": "L_S", "imitation": "L_I", "gradient": "L_G", "convergence": "R", "row_space": "N", "data_fidelity": "g"}


def preset_table(presets: Iterable[Mapping[str, Any]], runs: Iterable[Run] = ()) -> str:
    """One row per preset as :func:`~dipa.experiments.describe` gives it, with its recorded seeds and what it costs.

    Seconds of profile ``smoke`` are those of :mod:`~dipa.experiments.costs`, of ``small`` those of the first recorded run.
    """
    groups = group(runs)
    rows = []
    for row in presets:
        made = groups.get(row["name"], [])
        seconds = row["profile_seconds"]["smoke"], made[0].manifest["seconds"] if made else None
        costs = ["" if value is None else f"{value:.0f}" for value in seconds]
        seeds = ", ".join(str(run.config.seed) for run in made)
        rows.append((f"`{row['name']}`", row["about"], _place(row), row["method"], row["prior"], _loss(row), seeds, *costs))
    return markdown(("preset", "about", "where", "method", "prior", "loss", "recorded seeds", "smoke s", "small s"), rows)


def not_recorded(runs: Iterable[Run], presets: Sequence[str]) -> str:
    """One sentence that names the presets among ``presets`` that no run is of, each once."""
    groups = group(runs)
    missing = [f"`{name}`" for name in dict.fromkeys(presets) if name not in groups]
    return f"Not recorded: {', '.join(missing) or 'none of these is missing'}."


def _place(row: Mapping[str, Any]) -> str:
    """The table or figure with its paper; what it is for where no paper has it."""
    named = row["paper"] == "project" or row["table"].startswith("D2GP ")
    return row["table"] if named else f"{row['paper']} {row['table']}"


def _loss(row: Mapping[str, Any]) -> str:
    """The terms of the loss as symbols."""
    terms = " + ".join(SYMBOLS[name] for name in row["loss"].split(" + ") if name != "none")
    return f"${terms}$" if terms else ""


def profile_table(preset: str) -> str:
    """The settings of a preset that are not the same in every profile, a column per profile."""
    found = {name: settings(resolve(preset, name)) for name in profiles()}
    keys = dict.fromkeys(key for values in found.values() for key in values)
    cells = {key: [setting(values.get(key, "")) for values in found.values()] for key in keys}
    rows = [(f"`{key}`", *values) for key, values in cells.items() if len(set(values)) > 1]
    return markdown(("setting", *found), rows)
