"""The manifest of a run folder: it lists the SHA-256 of every other file, and carries a
checksum of itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import files
from ..checks import InputError

NAME = "manifest.json"
# bytes of a file that is committed; the others are left out of the copy under book/results
LARGEST = 4_000_000
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
    found = read_json(path, MOVE)
    listed = is_sealed(found) and isinstance(found["files"], dict)
    if any(name in found for name in SEAL) and not (
        listed and found == sealed(found, found["files"])
    ):
        raise InputError(f"{path}: damaged (its checksum is that of other content); {MOVE}")
    versions = found.get("versions")
    # whoever writes its version writes the list too
    if not listed and isinstance(versions, dict) and "dipa" in versions:
        raise InputError(f"{path}: damaged (the list of files is missing); {MOVE}")
    return found


def read_json(path: Path, advice: str) -> dict[str, Any]:
    """The JSON object in the file ``path``; anything else is refused by name, with the
    ``advice`` what to do.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: damaged ({getattr(error, 'strerror', None) or error}); {advice}"
        ) from error
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")
