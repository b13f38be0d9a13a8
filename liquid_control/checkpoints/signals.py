"""Stop a training on a signal, at a point from which it can be resumed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class StopRequest:
    """The signal that asked this process to end, if any."""

    signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Store the first Ctrl-C, SIGTERM or SIGHUP in a request; the second ends the process at once.

    A terminal that is closed sends SIGHUP.

    Signals that the process ignores stay ignored. Only the main thread can handle signals; in
    others the request stays empty.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return

    def restore_handlers() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def store(number: int, _: object) -> None:
        request.signal = signal.Signals(number)
        restore_handlers()

    handled = [signal.SIGINT, signal.SIGTERM]
    handled += [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []  # Windows has none
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in handled}
    before = {number: old for number, old in before.items() if old is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, store)
    try:
        yield request
    finally:
        restore_handlers()
