"""Ctrl-C and SIGTERM: finish the step, keep what there is, then stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

from bitkeras.errors import Interrupted
from pipelines.runtime import say

# By convention of shells 128 + the signal; what `bitkeras` exits with.
EXIT_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}


class StopRequest:
    """Which signal asked to stop, or None."""

    def __init__(self):
        self.signal: signal.Signals | None = None

    def is_made(self) -> bool:
        """True once a signal has come."""
        return self.signal is not None

    def interrupted(self, place: str) -> Interrupted:
        """The error that ends the run, which can go on from `place`."""
        told = f"stopped by {self.signal.name} after {place}; the same command goes on from there."
        return Interrupted(told, exit_status=EXIT_STATUS[self.signal])

    def receive(self, number, _frame) -> None:
        """Notes the first signal; at the second the program is left where it stands."""
        if self.is_made():
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        say(f"{self.signal.name}: stopping after this step; once more stops at once and loses the steps since then")


@contextlib.contextmanager
def noting_signals() -> Iterator[StopRequest]:
    """Inside, a signal is a request that training looks at after each step."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may set handlers; a thread of somebody else's program has its own.
        yield request
        return
    before = {number: signal.signal(number, request.receive) for number in EXIT_STATUS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
