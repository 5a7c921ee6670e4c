"""Ctrl-C and SIGTERM as one exception, raised between two states and never inside a change of
state.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """The process was asked to stop; ``status`` is the exit status of such an end: 130 for
    Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, signum: int):
        super().__init__(signal.Signals(signum).name)
        self.status = 128 + signum


class Guard:
    """While entered, a signal raises :class:`Interrupted`: at once, or at the end of a
    :meth:`whole` stretch.

    It leaves the guarded stretch as that, also where it came in the middle of an import and
    compiled code made another exception of it. Guards may be nested: the innermost one acts.
    Outside the main thread, which alone receives signals, nothing changes.
    """

    def __init__(self):
        self._held, self._pending, self._raised, self._before = 0, 0, 0, {}

    def __enter__(self) -> Guard:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._raised and error is not None and not isinstance(error, Interrupted):
            raise Interrupted(self._raised) from error

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        self._pending = signum
        self._raise_pending()

    def _raise_pending(self) -> None:
        if self._pending and not self._held:
            self._raised, self._pending = self._pending, 0
            raise Interrupted(self._raised)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """A stretch that a signal waits for."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        self._raise_pending()
