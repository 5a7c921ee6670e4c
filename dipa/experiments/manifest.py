"""The manifest of a run folder: with what the process computes (commit, versions, device, threads,
memory; what cannot be known is None), the SHA-256 of every other file, and a checksum of itself.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__, files
from ..checks import InputError

if TYPE_CHECKING:
    import torch

# Windows has none
resource = import_module("resource") if find_spec("resource") else None

PACKAGE = Path(__file__).resolve().parents[1]

NAME = "manifest.json"
# bytes of a file that is committed; the others are left out of the copy under book/results
LARGEST = 4_100_000
SEAL = ("files", "checksum")  # the entries that a sealed manifest ends with
MOVE = "move the folder away, then run again"


def sealed(manifest: Mapping[str, Any], hashes: Mapping[str, str]) -> dict[str, Any]:
    """``manifest`` with the SHA-256 of each file by name, and last its own ``checksum``: that
    of all its other entries.
    """
    content = {name: value for name, value in manifest.items() if name not in SEAL} | {
        "files": dict(hashes)
    }
    return content | {"checksum": files.sha256_json(content)}


def is_sealed(manifest: Mapping[str, Any]) -> bool:
    """Whether the files of the run can be verified; manifests of dipa before 0.3.0 have no list."""
    return all(name in manifest for name in SEAL)


def listed(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The SHA-256 that a manifest holds of files of its folder, by name: of all where it is
    sealed, else of what was trained.
    """
    if is_sealed(manifest):
        return manifest["files"]
    trained = manifest.get("trained")
    return (
        {trained["file"]: trained["sha256"]}
        if isinstance(trained, dict) and {"file", "sha256"} <= trained.keys()
        else {}
    )


def left_out(manifest: Mapping[str, Any]) -> list[str]:
    """The files that may be missing: those a sealed manifest names, in older ones a trained
    file that is too large to commit.
    """
    if is_sealed(manifest):
        return manifest.get("left_out", [])
    return [name for name in listed(manifest) if manifest["trained"].get("bytes", 0) > LARGEST]


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of ``folder`` but the manifest and hidden ones, by name."""
    return {name: files.sha256_file(folder / name) for name in names(folder)}


def names(folder: Path) -> list[str]:
    """What is in ``folder`` beside the manifest, without hidden entries."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.name != NAME and not path.name.startswith(".")
    )


def read(folder: Path) -> dict[str, Any]:
    """The manifest of ``folder``; refused by name where it cannot be read or is not as it was
    written.
    """
    path = folder / NAME
    manifest = read_json(path, MOVE)
    listed = is_sealed(manifest) and isinstance(manifest["files"], dict)
    if any(name in manifest for name in SEAL) and not (
        listed and manifest == sealed(manifest, manifest["files"])
    ):
        raise InputError(f"{path}: damaged (its checksum is that of other content); {MOVE}")
    versions = manifest.get("versions")
    # whoever writes its version writes the list too
    if not listed and isinstance(versions, dict) and "dipa" in versions:
        raise InputError(f"{path}: damaged (the list of files is missing); {MOVE}")
    return manifest


def read_json(path: Path, advice: str) -> dict[str, Any]:
    """The JSON object in the file ``path``; anything else is refused by name, with the
    ``advice`` what to do.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: damaged ({getattr(error, 'strerror', None) or error}); {advice}"
        ) from error
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def provenance(place: torch.device | None = None) -> dict[str, Any]:
    """With what this process computes on a device (None: the processor). Ask early.

    The commit of the code it has loaded, versions, the device in words, threads.
    """
    import deepinv
    import numpy as np
    import torch

    from .. import device

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
