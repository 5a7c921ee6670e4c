"""With what a process computes: commit, versions, device, threads, memory. What cannot be known
is None.
"""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import deepinv
import numpy as np
import torch

from .. import __version__, device

# Windows has none
resource = import_module("resource") if find_spec("resource") else None

PACKAGE = Path(__file__).resolve().parents[1]


def provenance(place: torch.device | None = None) -> dict[str, Any]:
    """With what this process computes on a device (None: the processor). Ask early.

    The commit of the code it has loaded, versions, the device in words, threads.
    """
    return commit(PACKAGE) | {
        "versions": {
            "dipa": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "deepinv": deepinv.__version__,
            "numpy": np.__version__,
        },
        **device.describe(torch.device("cpu") if place is None else place),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def commit(package: Path) -> dict[str, Any]:
    """``commit`` and ``dirty`` of the repository whose top level holds ``package`` and that tracks
    it; None for both else.

    A package installed inside another repository, such as in its ``.venv``, has none: that commit
    says nothing about it. Dirty is a tracked file that differs from the commit, or a file of the
    package that is not in it.
    """
    top = _git(package, "rev-parse", "--show-toplevel")
    ours = (
        top
        and Path(top).resolve() == package.parent
        and _git(package, "ls-files", "--error-unmatch", "__init__.py")
    )
    head = _git(package, "rev-parse", "HEAD") if ours else None
    changes = (
        _git(package, "status", "--porcelain", "--untracked-files=no"),
        _git(package, "status", "--porcelain", "."),
    )
    if not head or None in changes:
        return {"commit": None, "dirty": None}
    return {"commit": head, "dirty": any(changes)}


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def peak_memory_mib() -> int | None:
    """The most memory this process has held so far, in MiB; None where the system does not say."""
    if resource is None:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (
        1024 if sys.platform != "darwin" else 1 << 20
    )


def _git(folder: Path, *arguments: str) -> str | None:
    """What git prints in ``folder``; None where it fails, is too slow or not there."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=10,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
