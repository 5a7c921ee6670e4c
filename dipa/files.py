"""Files that are whole or absent: atomic writes, hashes of bytes and of plain values. Tensors:
:mod:`dipa.storage`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TOKEN = "[0-9a-f]" * 8  # of a temporary name, as a glob


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
