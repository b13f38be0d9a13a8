"""Signals that end a training where it can be resumed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class StopRequest:
    """Whether this process was asked to end, and by which signal."""

    signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Note the first SIGTERM or Ctrl-C, for who asks; the second one ends the process at once.

    A signal that the process ignores stays ignored. Outside the main thread, which alone may
    handle signals, nothing is noted.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def give_back() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _: object) -> None:
        request.signal = signal.Signals(number)
        give_back()

    heard = [signal.SIGINT, signal.SIGTERM]
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in heard}
    before = {number: old for number, old in before.items() if old is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        give_back()
