"""An HTTP server whose threads are bounded and do not wait for slow clients for ever."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from http.server import ThreadingHTTPServer

IDLE_SECONDS = 0.5
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 64\r\n"
    b"\r\n" + b'{"error": "All connections of this server are being answered"}'.ljust(64)
)


@dataclasses.dataclass
class _Connection:
    since: float  # monotonic; when it began to wait for its client
    awaits_client: bool = True


class BoundedHTTPServer(ThreadingHTTPServer):
    """A thread a connection, `max_connections` of them.

    A connection that is awaited, because its client sends slowly or nothing, is cut after `client_seconds`. Where
    there is no room for another, the one that is awaited longest is cut at once, so slow clients keep nobody out.

    Attributes:
      draining: set to answer what has arrived and nothing more.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler, *, max_connections: int, client_seconds: float):
        self._connections: dict[socket.socket, _Connection] = {}
        self._lock = threading.Lock()
        self._max_connections, self._client_seconds = max_connections, client_seconds
        self.draining = threading.Event()
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, handler)

    def process_request(self, request: socket.socket, client_address) -> None:
        """Take a connection on, if need be in place of one that is awaited."""
        with self._lock:
            has_room = len(self._connections) < self._max_connections or self._make_room()
            if has_room:
                self._connections[request] = _Connection(time.monotonic())
        if has_room:
            super().process_request(request, client_address)
            return
        with contextlib.suppress(OSError):
            request.setblocking(False)
            request.send(_FULL)
        self.shutdown_request(request)

    def _make_room(self) -> bool:
        """Under the lock: cut who is awaited longest; False where nobody is."""
        awaited = [request for request, connection in self._connections.items() if connection.awaits_client]
        if not awaited:
            return False
        oldest = min(awaited, key=lambda request: self._connections[request].since)
        _cut(oldest)
        del self._connections[oldest]
        return True

    def shutdown_request(self, request: socket.socket) -> None:
        """Forget a connection and close it."""
        with self._lock:
            self._connections.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Twice a second: cut connections that are awaited too long."""
        limit = time.monotonic() - self._client_seconds
        with self._lock:
            for request, connection in self._connections.items():
                if connection.awaits_client and connection.since < limit:
                    _cut(request)

    def handle_error(self, request, client_address) -> None:
        """Clients that go away, and those that are cut, are no news."""

    @contextlib.contextmanager
    def answering(self, request: socket.socket):
        """Inside, all of a request has come, and the connection is not cut."""
        with self._lock:
            connection = self._connections.get(request)
            if connection is None:
                raise ConnectionAbortedError
            connection.awaits_client = False
        try:
            yield
        finally:
            connection.since, connection.awaits_client = time.monotonic(), True

    def drain(self, seconds: float) -> None:
        """Take nothing more, cut who sends nothing, and wait for the answers that are under way."""
        self.draining.set()
        self.shutdown()
        self.server_close()
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with self._lock:
                # A client that has just been answered may be sending its next request; the answer to that says close.
                idle = time.monotonic() - IDLE_SECONDS
                for request, connection in self._connections.items():
                    if connection.awaits_client and connection.since < idle:
                        _cut(request)
                if not self._connections:
                    return
            time.sleep(0.02)


def _cut(request: socket.socket) -> None:
    # The thread of the connection reads an end of file and closes it.
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)
