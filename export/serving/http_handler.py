"""HTTP/1.1 around `rest`: reads bodies within the limits, writes answers."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from http.server import BaseHTTPRequestHandler

from export.serving import rest
from export.serving.errors import RequestError, invalid
from export.serving.service import Service

# What is read and dropped after a refusal: a client that is still sending would else see a reset and no answer.
DROPPED_BYTES = 256 << 20
DROPPED_SECONDS = 5.0


def make_handler(service: Service) -> type[BaseHTTPRequestHandler]:
    """The handler class of a server around `service`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "bitkeras", ""
        # Without the first an answer waits 40 ms for the client's acknowledgement; the second sends it in one piece.
        disable_nagle_algorithm = True
        wbufsize = -1
        timeout = service.limits.client_seconds

        def do_GET(self):
            self._answer("GET", 0)

        def do_POST(self):
            try:
                self._answer("POST", self._body_length())
            except RequestError as error:
                self._refuse(error)

        def handle_expect_100(self) -> bool:
            # A body that is refused anyway need not be sent.
            try:
                self._body_length()
            except RequestError as error:
                self._refuse(error)
                return False
            return super().handle_expect_100()

        def log_message(self, *_) -> None:
            """`Service.told` logs."""

        def send_error(self, code, message=None, explain=None) -> None:
            """What http.server finds wrong with a request, as JSON."""
            self.close_connection = True
            text = message or self.responses.get(code, ("?",))[0]
            self._write(int(code), rest.JSON, json.dumps({"error": text}).encode())

        def _body_length(self) -> int:
            given = self.headers.get_all("Content-Length") or []
            if self.headers.get("Transfer-Encoding") or self.headers.get("Content-Encoding"):
                raise RequestError("UNIMPLEMENTED", "Send the body plain, with Content-Length.", http_status=411)
            if len(given) != 1 or not (given[0].isascii() and given[0].isdigit()) or len(given[0]) > 18:
                raise invalid("The header Content-Length must be given once and be a number of bytes.")
            limit = service.limits.max_request_bytes
            if int(given[0]) > limit:
                raise RequestError(
                    "RESOURCE_EXHAUSTED",
                    f"The body has {int(given[0])} bytes and this server takes at most {limit}; send fewer rows.",
                    http_status=413,
                )
            return int(given[0])

        def _answer(self, method: str, length: int) -> None:
            with service.held.holding(length):
                body = self.rfile.read(length) if length else b""
                if len(body) < length:
                    self.close_connection = True  # the client went, or was too slow
                    return
                with self.server.answering(self.connection):
                    self._write(*rest.answer(service, method, self.path, body))

        def _refuse(self, error: RequestError) -> None:
            self.close_connection = True
            self._write(*rest.refusal(service, error))
            self.wfile.flush()
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
                self.connection.settimeout(1.0)
                deadline, left = time.monotonic() + DROPPED_SECONDS, DROPPED_BYTES
                while left > 0 and time.monotonic() < deadline:
                    dropped = len(self.connection.recv(1 << 16))
                    if not dropped:
                        break
                    left -= dropped

        def _write(self, status: int, content_type: str, body: bytes) -> None:
            self.close_connection = self.close_connection or self.server.draining.is_set()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

    return Handler
