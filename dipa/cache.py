"""Results of batches, kept in a folder under all that shaped them; what is damaged or of
something else is computed again.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from . import files, paths, storage
from .checks import InputError, one_line
from .identity import Description

Identity = dict[str, Description]
Entry = tuple[dict[str, torch.Tensor], dict[str, Any]]  # tensors, and a record of plain values


def directory() -> Path | None:
    """Where results are kept: :func:`dipa.paths.cache_directory`; None, with one warning, where
    there is no such place.
    """
    try:
        return paths.cache_directory()
    except InputError as error:
        warn_once(f"cache: {error}; going on without")
        return None


@functools.cache
def warn_once(text: str) -> None:
    """One warning in a process, however many batches meet its cause."""
    warnings.warn(text, stacklevel=3)


def differences(first: Identity, second: Identity) -> list[str]:
    """The parts in which two identities differ, by name."""
    names = [*first, *(name for name in second if name not in first)]
    return [
        name
        for name in names
        if not (name in first and name in second and first[name].same(second[name]))
    ]


def unknown(identity: Identity) -> list[str]:
    """What the identity cannot describe, each with its part."""
    return [f"{name}: {path}" for name, part in identity.items() for path in part.unknown]


def to_record(identity: Identity) -> dict[str, Any]:
    """Plain values for a file; :func:`from_record` takes them back."""
    return {name: part.record() for name, part in identity.items()}


def from_record(record: dict[str, Any]) -> Identity:
    """The inverse of :func:`to_record`; raises TypeError, ValueError or AttributeError for
    anything else.
    """
    return {name: Description.read(part) for name, part in record.items()}


class Cache:
    """A folder of entries, each the result of one batch.

    An entry is found by what shaped it and carries that with it: a file that is damaged, or was put
    in the place of another, is computed again. Where nothing can be written the work goes on
    without.

    Args:
        folder: where entries lie; None keeps nothing.
        kind: what they are, the beginning of their names.
        identity: what shapes every entry; where a part of it cannot be described nothing is kept.
    """

    def __init__(self, folder: str | Path | None, kind: str, identity: Identity):
        self.folder = None if folder is None or unknown(identity) else Path(folder).expanduser()
        self.kind, self.identity = kind, identity
        self.hits = self.computed = 0

    def __call__(self, batch: Identity, compute: Callable[[], Entry]) -> Entry:
        """The entry of the batch that ``batch`` describes, read where it is kept, else computed
        and kept.
        """
        whole = self.identity | batch
        entry = self._read(self.folder, whole) if self.folder else None
        if entry is not None:
            self.hits += 1
            return entry
        self.computed += 1
        entry = compute()
        if self.folder:
            self._write(self.folder, whole, entry)
        return entry

    def _path(self, folder: Path, identity: Identity) -> Path:
        exact = files.sha256_json({name: part.exact for name, part in identity.items()})
        numbers = files.sha256_json({name: part.numbers for name, part in identity.items()})
        return folder / f"{self.kind}-{exact[:32]}-{numbers[:8]}.safetensors"

    def _read(self, folder: Path, identity: Identity) -> Entry | None:
        """The first entry that was made by what ``identity`` describes; those of operators that
        differ in their numbers stay.
        """
        path = self._path(folder, identity)
        others = sorted(folder.glob(f"{path.name.rpartition('-')[0]}-*.safetensors"))
        for candidate in sorted(others, key=lambda other: other != path):
            try:
                tensors, record = storage.read_tensors(candidate)
                stored = from_record(record["identity"])
            except (InputError, OSError, LookupError, TypeError, ValueError, AttributeError):
                self._drop(candidate, "damaged")
                continue
            if not differences(identity, stored):
                return tensors, record["record"]
            if self._path(folder, stored) != candidate:
                self._drop(candidate, "of something else")
        return None

    def _drop(self, path: Path, trouble: str) -> None:
        warnings.warn(f"cache: {path} is {trouble}; it is computed again", stacklevel=2)
        with contextlib.suppress(OSError):
            path.unlink()

    def _write(self, folder: Path, identity: Identity, entry: Entry) -> None:
        tensors, record = entry
        try:
            storage.write_tensors(
                self._path(folder, identity),
                tensors,
                {"identity": to_record(identity), "record": record},
            )
        except OSError as error:
            cause = error.__cause__
            reason = one_line(str(cause.strerror if isinstance(cause, OSError) else error))
            warn_once(
                f"cache: {folder} cannot be written ({reason}); set DIPA_CACHE to a "
                f"folder that can; going on without"
            )
            self.folder = None
