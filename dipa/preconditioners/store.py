"""Save and load preconditioners: safetensors with the record of what made them, no pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import files
from ..checks import InputError, require
from ..operators import rebuild_basis
from .linear import LinearPreconditioner


def save(preconditioner: LinearPreconditioner, path: str | Path, record: dict[str, Any] | None = None) -> Path:
    """Write a preconditioner and the ``record`` (plain values) of what made it, atomically.

    Raises :class:`InputError` for anything but a :class:`LinearPreconditioner`.
    """
    kind = type(preconditioner).__name__
    require(isinstance(preconditioner, LinearPreconditioner), "preconditioner", kind, "a LinearPreconditioner")
    basis = preconditioner.basis
    header = {"kind": "linear", "basis": basis.kind, "img_size": list(basis.img_size), "made_by": record or {}}
    return files.write_tensors(path, preconditioner.state_dict(), header)


def load(path: str | Path) -> tuple[LinearPreconditioner, dict[str, Any]]:
    """Read back a preconditioner and its record; a missing, damaged or foreign file is refused by name."""
    tensors, header = files.read_tensors(path)
    if header.get("kind") != "linear" or "matrix" not in tensors:
        raise InputError(f"{path}: holds no linear preconditioner (kind {header.get('kind')!r})")
    buffers = {name.removeprefix("basis."): tensor for name, tensor in tensors.items()}
    basis = rebuild_basis(header["basis"], tuple(header["img_size"]), buffers)
    return LinearPreconditioner(tensors["matrix"], basis.to(tensors["matrix"].dtype)), header["made_by"]
