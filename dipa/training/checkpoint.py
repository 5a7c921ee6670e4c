"""Training checkpoints: written atomically, tied to the run that wrote them, loaded without
pickle.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import warnings
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_map

from .. import files
from ..cache import Identity, differences, from_record, to_record, unknown
from ..checks import InputError

# what torch's unpickler raises on bytes that are damaged, foreign or hold code
UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    RuntimeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    OSError,
)
DIGEST = hashlib.sha256().digest_size  # bytes at the end of a checkpoint


def save_checkpoint(path: Path, identity: Identity, state: dict[str, Any]) -> None:
    """Replace the checkpoint at ``path`` with ``state``, whole or not at all; ``identity`` is what
    shapes the run.
    """
    write_checkpoint(path, {"identity": to_record(identity), **state})


def write_checkpoint(path: Path, state: Any) -> None:
    """Replace the file ``path`` with ``state`` and its SHA-256, whole or not at all."""
    content = io.BytesIO()
    torch.save(tree_map(_on_the_processor, state), content)
    files.write_bytes(path, content.getvalue() + hashlib.sha256(content.getvalue()).digest())


def _on_the_processor(value: Any) -> Any:
    return value.cpu() if isinstance(value, torch.Tensor) else value


def load_checkpoint(path: Path, identity: Identity) -> dict[str, Any] | None:
    """The state saved at ``path``, or None where there is none.

    What cannot be described, such as a denoiser that is a plain function, is named in a warning:
    nothing tells whether it is what it was.

    Raises :class:`InputError` naming the file when it is damaged, holds code, or belongs to another
    run, with the parts in which that differs.
    """
    if not path.is_file():
        return None
    state = _read(path)
    try:
        other = differences(identity, from_record(state["identity"]))
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: damaged or foreign checkpoint ({type(error).__name__}); remove it to "
            f"start again"
        ) from error
    if other:
        raise InputError(
            f"{path}: checkpoint of a run with other {', '.join(other)}; remove it to start again"
        )
    if unchecked := unknown(identity):
        warnings.warn(
            f"{path}: cannot check that these are what they were: {', '.join(unchecked)}",
            stacklevel=2,
        )
    return state


def _read(path: Path) -> dict[str, Any]:
    """The state in the file ``path``; what is damaged is refused.

    One changed bit is enough: the checksum is looked at before anything is unpacked.
    """
    try:
        whole = path.read_bytes()
        content, checksum = whole[:-DIGEST], whole[-DIGEST:]
        if hashlib.sha256(content).digest() != checksum:
            raise ValueError("checksum")
        state = dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
        state["identity"]
    except UNREADABLE as error:
        raise InputError(
            f"{path}: damaged or foreign checkpoint ({type(error).__name__}); remove it to "
            f"start again"
        ) from error
    return state
