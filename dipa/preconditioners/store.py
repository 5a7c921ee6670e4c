"""Save and load learned preconditioners: safetensors with the record of what made them, no pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import storage
from ..checks import InputError, require, require_json, require_new_file, require_path, shorter, shown
from .base import KINDS, Preconditioner


def save(preconditioner: Preconditioner, path: str | Path, record: dict[str, Any] | None = None) -> Path:
    """Write a learned preconditioner and the ``record`` (plain values) of what made it, atomically.

    Raises :class:`InputError` for a fixed preconditioner (it holds no trained numbers: make it again from its
    operator), for a class that does not name a ``kind`` of its own, and for numbers that are not finite.
    """
    path = require_new_file("path", path)
    require(path is not None, "path", path, "the name of a file")
    name = type(preconditioner).__name__
    kind = getattr(preconditioner, "kind", "")
    allowed = f"a learned preconditioner ({', '.join(sorted(KINDS))}); a fixed one is made again from its operator"
    require(KINDS.get(kind) is type(preconditioner), "preconditioner", name, allowed)
    require_json("record", record)
    storage.require_weights("preconditioner", preconditioner.state_dict())
    header = {"kind": kind, **preconditioner.header(), "made_by": record or {}}
    return storage.write_tensors(path, preconditioner.state_dict(), header)


def load(path: str | Path) -> tuple[Preconditioner, dict[str, Any]]:
    """Read back a preconditioner, and its record.

    Raises :class:`InputError` by name for a missing, damaged or foreign file, and for one whose tensors are not finite or
    not exactly those (names, shapes, dtypes) of the preconditioner its header describes.
    """
    path = require_path("path", path)
    tensors, header = storage.read_weights(path)
    kind, record = header.pop("kind", None), header.pop("made_by", {})
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(
            f"{path}: holds no preconditioner of a known kind (kind {shown(kind)}; known: {', '.join(sorted(KINDS))})"
        )
    require(isinstance(record, dict), f"{path}: made_by", record, "a record of what made it")
    try:
        made = KINDS[kind].rebuild(header, tensors)
        storage.require_same_dtypes(made.state_dict(), tensors)
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
        reason = f"{type(error).__name__}: {shorter(str(error))}"
        raise InputError(f"{path}: a damaged or incomplete preconditioner of kind {kind!r} ({reason})") from error
    return made, record
