"""The folders and files that environment variables name; a leading ``~`` is the home folder, an
empty variable is none.
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
