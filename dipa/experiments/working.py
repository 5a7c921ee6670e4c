"""What an unfinished run keeps beside its folder: a lock on its name, so that one process writes
it, the seconds of all attempts, and what killed ones left, which is swept away.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from .. import files
from ..checks import InputError
from ..training import parallel
from . import manifest
from .config import RUN_NAME

NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
PATIENCE = 0.5  # seconds after which a process says that it waits
LEFT = re.compile(rf"\.({RUN_NAME})\.(?:lock|working|(?:[0-9a-f]{{8}}\.)?writing)")


def working(folder: Path) -> Path:
    """Where an unfinished run keeps what resumes it: a hidden sibling of its ``folder``."""
    return folder.with_name(f".{folder.name}.working")


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Alone with the name of ``folder`` among all processes; of several that torchrun started, the
    first one holds the lock.

    Who comes second says so in one line and waits. The lock of a killed process is released by the
    system. On a file system without locks one line says so and the work goes on: to refuse would
    shut out clusters whose disks have none, and every file is still whole or absent there.

    Raises:
        InputError: a place that cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        with parallel.together():
            if parallel.rank() == 0:
                stack.enter_context(_alone(folder))
        yield


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = _lock(folder)
    try:
        with _refused(folder.parent):
            folder.parent.mkdir(parents=True, exist_ok=True)
            if _acquired(lock, folder):
                sweep(folder)
        yield
    finally:
        _release(lock)


@contextlib.contextmanager
def _refused(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"run folders: got {str(root)!r}; allowed: a folder to write to ({reason})"
        ) from error


def _lock(folder: Path) -> FileLock:
    return FileLock(folder.with_name(f".{folder.name}.lock"), fallback_to_soft=False)


def _acquired(lock: FileLock, folder: Path) -> bool:
    """Wait for the lock; False where the file system has none."""
    try:
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            _say(f"waiting: another process makes {folder.name} (it holds {lock.lock_file})")
            lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _say(f"{folder.parent}: no locks on this file system; start no run twice at the same time")
    return lock.is_locked


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _release(lock: FileLock) -> None:
    """Remove the file of a lock, then let go of it: who waits sees that its name is gone and
    makes a new one.
    """
    if lock.is_locked:
        with contextlib.suppress(OSError):
            Path(lock.lock_file).unlink()
        lock.release()


def sweep(folder: Path) -> None:
    """Remove what killed attempts at ``folder`` left and cannot be used; for the holder of its
    lock.

    A checkpoint stays until the run is finished: it resumes the run.
    """
    for path in folder.parent.glob(f".{glob.escape(folder.name)}.*writing"):
        if LEFT.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
    if (folder / manifest.NAME).is_file():
        shutil.rmtree(working(folder), ignore_errors=True)
    files.sweep(working(folder))


def sweep_all(root: Path) -> None:
    """Sweep after all runs of the folder ``root`` that no process makes; what cannot be removed
    stays.
    """
    left = [LEFT.fullmatch(path.name) for path in root.iterdir()] if root.is_dir() else []
    for name in sorted({match[1] for match in left if match}):
        lock = _lock(root / name)
        with contextlib.suppress(OSError):  # Timeout is one: another process holds it
            lock.acquire(timeout=0)
            try:
                sweep(root / name)
            finally:
                _release(lock)


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
    clock = manifest.read_json(path, advice)
    seconds, attempts = clock.get("seconds"), clock.get("attempts")
    if not (isinstance(seconds, float) and seconds >= 0 and isinstance(attempts, int)):
        raise InputError(f"{path}: damaged; {advice}")
    return seconds, attempts + 1
