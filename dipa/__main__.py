"""The command ``dipa``, also as ``python -m dipa``: one line for a Ctrl-C from the first moment
on, while torch is imported.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType
from typing import Any


def main() -> int:
    """Import the command line and run it; returns the exit status."""
    # not where the shell ignores it for a job of its own
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _stop)
    stdout: Any = sys.stdout
    if stdout is not None:
        # a path that the terminal's encoding does not know
        stdout.reconfigure(errors="backslashreplace")
    from . import cli

    status = cli.main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done and said
    return status


def _stop(signum: int, frame: FrameType | None) -> None:
    """End at once: nothing has begun, and an exception here may be swallowed by whatever is
    being imported.
    """
    with contextlib.suppress(OSError):
        os.write(2, b"stopped (SIGINT) before anything began\n")
    os._exit(128 + signum)


if __name__ == "__main__":
    sys.exit(main())
