"""YAML and JSON from outside: of bounded length and depth, every key once, refused in one line
by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from .checks import InputError, require, require_file, shorter, shown

MOST_YAML = 100_000  # characters of a YAML document: PyYAML reads about that many in a second
MOST_JSON = 64 << 20  # bytes of a JSON file
DEEPEST = 32  # mappings and lists inside each other
# what PyYAML raises on text: on 2026-13-45 a ValueError, on !!int x a ValueError, on !!timestamp x
# an AttributeError
UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError)


class _Loader(yaml.SafeLoader):
    """Plain values, without anchors and aliases (a few characters of them stand for gigabytes)."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise yaml.MarkedYAMLError(
                problem="anchors and aliases (& and *) are not read", problem_mark=event.start_mark
            )
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(
                problem=f"more than {DEEPEST} levels", problem_mark=event.start_mark
            )
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            raise yaml.MarkedYAMLError(problem="a key is given twice", problem_mark=node.start_mark)
        return mapping


def parse_yaml(text: str, name: str, most: int = MOST_YAML) -> Any:
    """The plain values that YAML 1.1 ``text`` of at most ``most`` characters stands for.

    Raises :class:`InputError`, in one line that begins with ``name``, for text that is longer or no
    YAML, anchors and aliases, a key given twice, and more than 32 levels.
    """
    require(len(text) <= most, name, f"{len(text):,} characters", f"at most {most:,}")
    try:
        return yaml.load(text, _Loader)
    except UNREADABLE as error:
        reason = getattr(error, "problem", None) or str(error) or type(error).__name__
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark and mark.line else ""
        raise InputError(
            f"{name}: got {shown(text, 60)}; allowed: a value YAML can read "
            f"({_reason(reason)}{where})"
        ) from error


def parse_json(text: str, name: str) -> Any:
    """The plain values of JSON ``text``, the standard's alone: a key given twice, NaN and
    infinities are refused by ``name``.
    """
    try:
        return json.loads(
            text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}: damaged or not JSON ({_reason(error)})") from error


def read_yaml(path: str | Path) -> Any:
    """The plain values in a YAML file (:func:`parse_yaml`); a missing or damaged one is refused
    by its name.
    """
    return _read(path, 4 * MOST_YAML, parse_yaml)


def read_json(path: str | Path) -> Any:
    """The plain values in a JSON file (:func:`parse_json`); a missing or damaged one is refused
    by its name.
    """
    return _read(path, MOST_JSON, parse_json)


def _read(path: str | Path, most: int, parse: Callable[[str, str], Any]) -> Any:
    require_file("file", Path(path), "check the path")
    try:
        with open(path, "rb") as handle:
            content = handle.read(most + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({_reason(error)})") from error
    require(len(content) <= most, str(path), "a longer file", f"at most {most:,} bytes")
    return parse(text, str(path))


def _reason(error: object) -> str:
    return shorter(str(error)) or type(error).__name__


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        raise ValueError("a key is given twice")
    return mapping


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text[:40])
