"""Where the user's data lie in ``DIPA_DATA``."""

from __future__ import annotations

import os
from pathlib import Path

from .. import paths
from ..checks import InputError, require_path


def folder(name: str) -> Path | None:
    """``DIPA_DATA/name`` where that folder exists, else None."""
    root = paths.data_directory()
    path = root / name if root else None
    return path if path and path.is_dir() else None


def listing(name: str, pattern: str) -> list[Path]:
    """The files ``pattern`` of ``DIPA_DATA/name`` in name order; an empty list where there are
    none.
    """
    here = folder(name)
    return sorted(path for path in here.glob(pattern) if path.is_file()) if here else []


def chosen(name: str, subfolder: str, pattern: str, file: str, get: str) -> Path:
    """The one file of a data set that is a single file.

    Args:
        name: data set, for messages.
        subfolder: of ``DIPA_DATA``.
        pattern: what its files are called, such as ``*.npz``.
        file: a path, or a name inside the folder, with or without its ending; empty: the only file
            there is.
        get: how to get the data set, for messages.

    Raises:
        InputError: no such file, none at all, or several and ``file`` is empty.
    """
    here = listing(subfolder, pattern)
    names = ", ".join(path.name for path in here) or "none"
    if not file and len(here) == 1:
        return here[0]
    if not file:
        raise InputError(f"{name}: file not given and DIPA_DATA/{subfolder} holds {names}; {get}")
    matches = [path for path in here if file in (path.name, path.stem)]
    elsewhere = require_path("file", file)
    if matches or os.path.isfile(elsewhere):  # False too for a name that is too long
        return matches[0] if matches else elsewhere
    raise InputError(f"{name}: file {file!r} not found; DIPA_DATA/{subfolder} holds {names}; {get}")
