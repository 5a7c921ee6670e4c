"""Presets: a table of published cells, resolved with a profile and overrides into a
:class:`Config`.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ..checks import in_a_row, require, require_choice
from ..files import parse_yaml, read_yaml
from .config import Config, build, text_fields

META = ("about", "paper", "table", "like", "profiles")
TOPICS = ("single_pixel", "mri", "super_resolution", "large", "networks", "end_to_end", "training")
MOST_TEXT = 4096  # characters of a value on the command line
COSTS = Path(__file__).parent / "costs.json"  # written by scripts/record_costs.py
# what a profile says beyond its common part, by task.kind and by method
LAYERS = ("tasks", "methods")


@cache
def _profiles() -> dict[str, Any]:
    return _read("profiles")


@cache
def _table() -> dict[str, Any]:
    """Every preset, those that are ``like`` another completed by it."""
    table: dict[str, Any] = {}
    for topic in TOPICS:
        for name, entry in _read(f"presets_{topic}").items():
            table[name] = _merge(table[entry["like"]], entry) if "like" in entry else entry
    return table


def _read(file: str) -> dict[str, Any]:
    return read_yaml(Path(__file__).parent / f"{file}.yaml")


@cache
def _seconds() -> dict[str, dict[str, float]]:
    """Seconds of a run of each preset in each profile, where they were measured."""
    return json.loads(COSTS.read_text(encoding="utf-8")) if COSTS.is_file() else {}


def names() -> list[str]:
    """Every preset's name, in the table's order."""
    return list(_table())


def profiles() -> list[str]:
    """Every profile's name."""
    return list(_profiles())


def describe(name: str) -> dict[str, Any]:
    """What a preset is: name, paper, table, task, method, prior, loss, a sentence, and what each
    profile costs.

    ``profile_seconds`` is measured (``scripts/record_costs.py``): seconds of a run of each profile
    on one CPU thread, None where none is recorded.
    """
    config, entry = resolve(name, "small"), _entry(name)
    row = {
        "name": name,
        "paper": entry["paper"],
        "table": entry["table"],
        "task": config.task.kind,
        "method": config.method,
    }
    loss = " + ".join(config.losses.active()) if config.trained else "none"
    row |= {"prior": config.solver.prior, "loss": loss, "about": entry["about"]}
    return row | {
        "profile_seconds": {
            profile: _seconds().get(name, {}).get(profile) for profile in profiles()
        }
    }


def resolve(
    name: str,
    profile: str = "small",
    *,
    seed: int = 0,
    overrides: Iterable[str] | Mapping[str, Any] = (),
) -> Config:
    """The configuration of a preset: defaults < profile < preset < the preset's own profile <
    overrides.

    A profile has a common part, then one for the preset's task, then one for its method.
    ``overrides`` are ``"section.key=value"`` strings or a mapping of such keys to values. In a
    string the value of a field of text is the text (without the quotes around it), any other is a
    number or YAML; of a key given twice the last one counts. Unknown presets, profiles and keys are
    refused with the nearest valid names.
    """
    entry = _entry(name)
    require_choice("profile", profile, profiles())
    settings = {key: value for key, value in entry.items() if key not in META}
    merged: dict[str, Any] = {"preset": name, "profile": profile, "seed": seed}
    for layer in (
        *_profile_layers(profile, settings),
        settings,
        entry.get("profiles", {}).get(profile, {}),
        _nested(overrides),
    ):
        merged = _merge(merged, layer)
    return build(Config, merged)


def _profile_layers(profile: str, settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    whole = _profiles()[profile]
    kind, method = settings.get("task", {}).get("kind", "single_pixel"), settings["method"]
    common = {key: value for key, value in whole.items() if key not in LAYERS}
    return [common, whole.get("tasks", {}).get(kind, {}), whole.get("methods", {}).get(method, {})]


def _entry(name: str) -> dict[str, Any]:
    require_choice("preset", name, names())
    return _table()[name]


def _merge(base: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in layer.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _nested(overrides: Iterable[str] | Mapping[str, Any]) -> dict[str, Any]:
    allowed = "a mapping of section.key to values, or a list of 'section.key=value'"
    require(in_a_row(overrides), "overrides", overrides, allowed)
    pairs = (
        overrides.items()
        if isinstance(overrides, Mapping)
        else [_parse(text) for text in overrides]
    )
    nested: dict[str, Any] = {}
    for dotted, value in pairs:
        require(isinstance(dotted, str), "overrides", dotted, "keys such as 'training.steps'")
        layer: Any = value
        for key in reversed(dotted.split(".")):
            layer = {key: layer}
        nested = _merge(nested, layer)
    return nested


def _parse(text: str) -> tuple[str, Any]:
    """Key and value of ``section.key=value``: the text itself for a field of text, a number as
    people write it, else YAML.
    """
    require(
        isinstance(text, str) and text.find("=") > 0,
        "--set",
        text,
        "section.key=value, such as training.steps=10",
    )
    key, _, value = text.partition("=")
    require(len(value) <= MOST_TEXT, "--set", text, f"values of at most {MOST_TEXT:,} characters")
    if key in text_fields():
        return key, _unquoted(value.strip())
    number = _number(value)
    parsed = parse_yaml(value, "--set") if number is None else number
    sixties = number is None and ":" in value and isinstance(parsed, (int, float))
    return key, value if sixties else parsed


def _unquoted(text: str) -> str:
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def _number(text: str) -> int | float | None:
    """The number a text is: to YAML 1.1, 1e-3 is text, 010 is eight and 1:30 is ninety."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return None
