"""The folders and files that environment variables name, and what lies in ``DIPA_DATA``; a leading
``~`` is the home folder, an empty variable is none.
"""

from __future__ import annotations

import os
from pathlib import Path

from .checks import InputError, require, require_path

HOME_CACHE = Path("~") / ".cache" / "dipa"


def data_directory() -> Path | None:
    """``DIPA_DATA``, the user's folder of data sets; None where it is not set. One that does
    not exist is refused by name.
    """
    folder = _named("DIPA_DATA")
    if folder is not None:
        require(
            os.path.isdir(folder),
            "DIPA_DATA",
            str(folder),
            "an existing folder; create it, or unset the variable",
        )
    return folder


def data_folder(name: str) -> Path | None:
    """``DIPA_DATA/name`` where that folder exists, else None."""
    root = data_directory()
    path = root / name if root else None
    return path if path and path.is_dir() else None


def data_files(name: str, pattern: str) -> list[Path]:
    """The files ``pattern`` of ``DIPA_DATA/name`` in name order; an empty list where there are
    none.
    """
    here = data_folder(name)
    return sorted(path for path in here.glob(pattern) if path.is_file()) if here else []


def data_file(name: str, subfolder: str, pattern: str, file: str, get: str) -> Path:
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
    here = data_files(subfolder, pattern)
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


def cache_directory() -> Path:
    """``DIPA_CACHE``, where downloads and what can be computed again are kept; else
    ``~/.cache/dipa``.

    Raises :class:`InputError` naming the variable where neither it nor a home folder says.
    """
    folder = _named("DIPA_CACHE")
    if folder is not None:
        return folder
    try:
        return require_path("home", HOME_CACHE)
    except InputError as error:
        raise InputError(
            "DIPA_CACHE: not set, and there is no home folder; set it to a folder that can "
            "be written"
        ) from error


def runs_directory() -> Path:
    """``DIPA_RUNS``, where runs are written; else ``runs`` under the current folder."""
    return _named("DIPA_RUNS") or Path("runs")


def denoiser_file() -> Path | None:
    """``DIPA_DNCNN``, deepinv's denoiser weights on this machine; None where it is not set."""
    return _named("DIPA_DNCNN")


def _named(variable: str) -> Path | None:
    text = os.environ.get(variable)
    return require_path(variable, text) if text else None
