"""The seconds of a piece of work over all its attempts, kept in a file while it goes on."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from pathlib import Path

from .. import files
from ..checks import InputError
from .manifest import read_json


class Clock:
    """Counts from its making on; while entered, ``path`` holds the sum of all attempts so far,
    written every ``EVERY`` seconds.

    A kill loses at most the time since the last writing. Without a ``path`` it counts this attempt
    alone. Work that is refused before it saved anything leaves no file and no folder.

    Args:
        path: the file, read where an earlier attempt left it; its folder is made.

    Raises:
        InputError: a file that holds no seconds.
    """

    EVERY = 1.0

    def __init__(self, path: Path | None):
        self.path, self.began = path, time.monotonic()
        self.earlier, self.attempts = _read(path) if path else (0.0, 1)
        self._stop, self._writer = (
            threading.Event(),
            threading.Thread(target=self._keep_writing, daemon=True),
        )

    @property
    def seconds(self) -> float:
        """Of all attempts, this one up to now."""
        return round(self.earlier + time.monotonic() - self.began, 2)

    def __enter__(self) -> Clock:
        if self.path:
            self._write()
            self._writer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        if self.path:
            self._stop.set()
            self._writer.join()
            with contextlib.suppress(OSError):  # a full disk must not hide what ended the work
                self._write()
                if (
                    kind
                    and issubclass(kind, InputError)
                    and os.listdir(self.path.parent) == [self.path.name]
                ):
                    self.path.unlink()
                    self.path.parent.rmdir()

    def _keep_writing(self) -> None:
        while not self._stop.wait(self.EVERY):
            with contextlib.suppress(OSError):  # there may be room the next time
                self._write()

    def _write(self) -> None:
        if self.path:
            files.write_json(self.path, {"seconds": self.seconds, "attempts": self.attempts})


def _read(path: Path) -> tuple[float, int]:
    """Seconds of the earlier attempts, and the number of this one."""
    if not path.exists():
        return 0.0, 1
    advice = "remove it, and the seconds of earlier attempts are not counted"
    found = read_json(path, advice)
    seconds, attempts = found.get("seconds"), found.get("attempts")
    if not (isinstance(seconds, float) and seconds >= 0 and isinstance(attempts, int)):
        raise InputError(f"{path}: damaged; {advice}")
    return seconds, attempts + 1
