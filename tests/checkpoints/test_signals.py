"""The first signal is noted, the second one does what it always does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from liquid_control.checkpoints.signals import stop_on_signals

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted_and_handlers_come_back(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with stop_on_signals() as request:
        assert not request
        os.kill(os.getpid(), number)
        assert request
        assert request.signal == number
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_without_a_signal_handlers_come_back() -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with stop_on_signals():
        assert [signal.getsignal(each) for each in SIGNALS] != before
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_a_second_ctrl_c_interrupts_at_once() -> None:
    with stop_on_signals() as request:
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert request.signal == signal.SIGTERM


@pytest.mark.slow
def test_a_second_sigterm_ends_the_process() -> None:
    script = (
        "import os, signal\n"
        "from liquid_control.checkpoints.signals import stop_on_signals\n"
        "with stop_on_signals():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('still here')\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (-signal.SIGTERM, b"")


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_on_signals() as request:
            os.kill(os.getpid(), signal.SIGINT)
            assert not request
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_are_left_in_peace() -> None:
    seen = []

    def train() -> None:
        with stop_on_signals() as request:
            seen.append(bool(request))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [False]
