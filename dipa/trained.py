"""Save and load what was trained: safetensors with the record of what made it, no pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import endtoend, preconditioners, storage
from .checks import (
    InputError,
    refuse,
    require,
    require_json,
    require_new_file,
    require_path,
    shorter,
    shown,
)
from .storage import KINDS, Trained
from .training import Fit

# what rebuilding from a file raises
BROKEN = (LookupError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError)
# the kind of every network in files before 0.4.0, which name the network beside it
OLDER = "end-to-end"
__all__ = ["endtoend", "load", "preconditioners", "save"]  # whose classes are the kinds of a file


def save(trained: Fit | Trained, path: str | Path, record: dict[str, Any] | None = None) -> Path:
    """Write a preconditioner or an end-to-end network, and the ``record`` of what made it,
    atomically.

    Args:
        trained: what :func:`~dipa.training.distill` or :func:`~dipa.training.train_network`
            returned, whose record is the default, or the module itself.
        path: the file.
        record: plain values.

    Raises:
        InputError: a fixed preconditioner (it holds no trained numbers: make it again from its
            operator), a class that does not name a ``kind`` of its own, numbers that are not
            finite.
    """
    module: Any = trained
    if isinstance(trained, Fit):
        module, record = trained.trained, trained.record if record is None else record
    file = require_new_file("path", path)
    if file is None:
        refuse("path", file, "the name of a file")
    kind = getattr(module, "kind", "")
    allowed = (
        f"one that is learned ({', '.join(sorted(KINDS))}); a fixed preconditioner is made "
        f"again from its operator"
    )
    require(KINDS.get(kind) is type(module), "trained", type(module).__name__, allowed)
    require_json("record", record)
    storage.require_weights("trained", module.state_dict())
    header = {"kind": kind, **module.header(), "made_by": record or {}}
    if setting := getattr(module, "setting", {}):
        header["setting"] = setting
    return storage.write_tensors(file, module.state_dict(), header)


def load(path: str | Path) -> tuple[Trained, dict[str, Any]]:
    """Read back what :func:`save` wrote, in evaluation mode, and its record.

    Raises :class:`InputError` by name for a missing, damaged or foreign file, and for one whose
    tensors are not finite or not exactly those (names, shapes, dtypes) of the module its header
    describes.
    """
    path = require_path("path", path)
    tensors, header = storage.read_weights(path)
    if header.get("kind") == OLDER and isinstance(header.get("network"), dict):
        older = header.pop("network")
        header |= older | {"kind": older.get("name")}
        header.pop("name", None)
    kind, record = header.pop("kind", None), header.pop("made_by", {})
    setting = header.pop("setting", {})
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(
            f"{path}: holds nothing of a known kind (kind {shown(kind)}; known: "
            f"{', '.join(sorted(KINDS))})"
        )
    require(isinstance(record, dict), f"{path}: made_by", record, "a record of what made it")
    require(isinstance(setting, dict), f"{path}: setting", setting, "what was fixed in training")
    try:
        module = KINDS[kind].rebuild(header, tensors)
        storage.require_same_dtypes(module.state_dict(), tensors)
    except BROKEN as error:
        reason = f"{type(error).__name__}: {shorter(str(error))}"
        raise InputError(
            f"{path}: a damaged or incomplete {kind!r}, or one that cannot be made ({reason})"
        ) from error
    if isinstance(module, preconditioners.Preconditioner):
        module.setting = setting or _older_setting(record)
    return module.eval(), record


def _older_setting(record: dict[str, Any]) -> dict[str, Any]:
    """The stepsize, where the record of a file without a setting names it as a number."""
    config = record.get("config")
    solver = config.get("solver") if isinstance(config, dict) else record
    stepsize = solver.get("stepsize") if isinstance(solver, dict) else None
    return {"stepsize": float(stepsize)} if isinstance(stepsize, float | int) else {}
