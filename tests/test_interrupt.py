"""Ctrl-C and SIGTERM: raised as one exception, and between two states."""

import os
import signal
import time

import pytest

from dipa.interrupt import Guard, Interrupted


def test_a_signal_waits_for_the_end_of_a_stretch_that_must_be_whole():
    done = []
    with pytest.raises(Interrupted, match="SIGTERM") as caught, Guard() as guard:
        with guard.whole():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.01)
            done.append("whole")
        done.append("never")
    assert done == ["whole"] and caught.value.status == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL, "the handlers of before are back"


def test_a_signal_of_which_other_code_made_another_error_is_still_a_stop():
    """As compiled modules do that are being imported: ImportError, RuntimeError."""
    with pytest.raises(Interrupted, match="SIGTERM") as caught, Guard():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        except KeyboardInterrupt as stop:
            raise ImportError("initialization failed") from stop
    assert caught.value.status == 143
    with pytest.raises(ImportError), Guard():
        raise ImportError("no signal")


def test_a_signal_outside_such_a_stretch_acts_at_once():
    with pytest.raises(KeyboardInterrupt) as caught, Guard(), Guard():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        pytest.fail("still here")
    assert caught.value.status == 130
