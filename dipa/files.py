"""Files: written whole or not at all, with hashes of bytes and of plain values; YAML and JSON from
outside read with bounded length and depth, every key once, refused in one line by name. Tensors:
:mod:`dipa.storage`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from .checks import InputError, require, require_file, shorter, shown

TOKEN = "[0-9a-f]" * 8  # of a temporary name, as a glob
MOST_YAML = 100_000  # characters of a YAML document: PyYAML reads about that many in a second
MOST_JSON = 64 << 20  # bytes of a JSON file
DEEPEST = 32  # mappings and lists inside each other
# what PyYAML raises on text: on 2026-13-45 a ValueError, on !!int x a ValueError, on !!timestamp x
# an AttributeError
UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError)


def temporary(path: Path, purpose: str) -> Path:
    """A hidden sibling of ``path`` under a name that nobody else uses: ``.NAME.TOKEN.PURPOSE``."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.{purpose}")


def sweep(folder: Path, older_than: float = 0.0) -> None:
    """Remove the temporary files that killed processes left in ``folder``, where none writes or
    those of so many seconds ago.

    What the system refuses to remove stays.
    """
    with contextlib.suppress(OSError):
        for path in list(folder.glob(f".*.{TOKEN}.partial")):
            if time.time() - path.stat().st_mtime >= older_than:
                path.unlink()


@contextlib.contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """A stretch in which what the system refuses to write is an :class:`OSError` that names
    ``path`` and says what to do.
    """
    try:
        yield
    except OSError as error:
        kept = "what was there is kept; make room or choose another folder, then start again"
        raise OSError(
            f"{path}: could not be written ({error.strerror or error}); {kept}"
        ) from error


def write_atomic(path: str | Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a temporary sibling, flush it to disk, then rename it to ``path``.

    A crash, a full disk or a kill leaves the old file (or none), never half of the new one. What
    the system refuses to write is an :class:`OSError` that names the file and says what to do.
    """
    path = Path(path)
    partial = temporary(path, "partial")
    try:
        with named_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write(partial)
            with open(partial, "rb+") as handle:
                os.fsync(handle.fileno())
            os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
    return path


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write ``content``, atomically."""
    return write_atomic(path, lambda partial: partial.write_bytes(content))


def write_text(path: str | Path, text: str) -> Path:
    """Write ``text`` as UTF-8, atomically."""
    return write_atomic(path, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_json(path: str | Path, value: Any) -> Path:
    """Write ``value`` as indented JSON (NaN and infinity refused), atomically."""
    return write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while chunk := handle.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value``."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


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
