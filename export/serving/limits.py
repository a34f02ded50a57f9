"""What the server takes on: sizes, waiting times, and how many requests at once."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import threading
from collections.abc import Iterator

from export.serving.errors import RequestError


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds that together bound memory and threads.

    Attributes:
      max_in_flight: requests that are computed at once; each uses all cores, so more than cores only cost memory.
      max_queued: requests that wait for that; one more is refused.
      max_request_bytes: of one request.
      max_held_bytes: of all requests that are in memory at once, computed, waiting or arriving.
      max_rows: images in one request: a batch takes some 10 MB of activations an image in an R50x1 at 224 px.
      max_connections: of REST, a thread each; calls of gRPC likewise.
      queue_seconds: a request waits no longer; TensorFlow Serving's REST gives up after 30 s too.
      client_seconds: a REST client has so long to send a request, or to take an answer.
    """

    max_in_flight: int = 2
    max_queued: int = 64
    max_request_bytes: int = 64 << 20
    max_held_bytes: int = 256 << 20
    max_rows: int = 64
    max_connections: int = 128
    queue_seconds: float = 30.0
    client_seconds: float = 30.0


class Gate:
    """Lets `max_in_flight` requests through at once and `max_queued` wait, first come first served."""

    def __init__(self, max_in_flight: int, max_queued: int):
        self._max_in_flight, self._max_queued = max_in_flight, max_queued
        self._lock = threading.Lock()
        self._waiting: collections.deque[threading.Event] = collections.deque()
        self.in_flight = 0

    @property
    def queued(self) -> int:
        """How many wait."""
        return len(self._waiting)

    @contextlib.contextmanager
    def admitted(self, seconds: float) -> Iterator[None]:
        """Inside, the request is one of those in flight.

        Raises:
          RequestError: RESOURCE_EXHAUSTED at once where the queue is full; DEADLINE_EXCEEDED after `seconds` in it.
        """
        self._enter(seconds)
        try:
            yield
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().set()  # hands its place on: a newcomer cannot slip in between
                else:
                    self.in_flight -= 1

    def _enter(self, seconds: float) -> None:
        with self._lock:
            if self.in_flight < self._max_in_flight:
                self.in_flight += 1
                return
            if len(self._waiting) >= self._max_queued:
                raise RequestError(
                    "RESOURCE_EXHAUSTED",
                    f"{self.in_flight} requests are being answered and {self._max_queued} wait, which is all that this "
                    "server takes; send it again later.",
                )
            turn = threading.Event()
            self._waiting.append(turn)
        if turn.wait(seconds):
            return
        with self._lock:
            if turn.is_set():  # between the end of the wait and the lock
                return
            self._waiting.remove(turn)
        raise RequestError("DEADLINE_EXCEEDED", f"The request waited for {seconds:.0f} s; send it again later.")


class HeldBytes:
    """Counts the bytes of the requests in memory."""

    def __init__(self, max_bytes: int):
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self.bytes = 0

    @contextlib.contextmanager
    def holding(self, num_bytes: int) -> Iterator[None]:
        """Inside, `num_bytes` more are held; RESOURCE_EXHAUSTED where that is too much."""
        with self._lock:
            if self.bytes + num_bytes > self._max_bytes:
                raise RequestError(
                    "RESOURCE_EXHAUSTED",
                    f"The requests that wait hold {self.bytes >> 20} MB, and this one of {num_bytes >> 20} MB would be "
                    f"beyond the {self._max_bytes >> 20} MB that this server takes; send it again later.",
                )
            self.bytes += num_bytes
        try:
            yield
        finally:
            with self._lock:
                self.bytes -= num_bytes
