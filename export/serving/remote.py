"""Ask a server, ours or TensorFlow Serving, for one signature of a model: by REST or by gRPC."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import numpy as np

from export.serving.remote_grpc import grpc_client
from export.serving.remote_rest import rest_client

# Encoded images of one signature's name in, {output: array} out.
Ask = Callable[[Sequence[bytes]], dict[str, np.ndarray]]


def connect(server: str, *, model_name: str | None = None, version: int | None = None):
    """A context manager that gives a function of encoded images, which asks `serving_default`.

    Args:
      server: `host:port` or an `http://` or `https://` address for REST, `grpc://host:port` for gRPC.
      model_name: none: the only one of the server, which TensorFlow Serving does not tell.
      version: none: the server's newest.

    Raises:
      UserError: no server there, or several models; of the function: the server does not answer.
      RequestError: of the function, the server refuses the request.
    """
    if server.startswith("grpc://"):
        return grpc_client(server[len("grpc://") :].rstrip("/"), model_name, version)
    url = server if server.startswith(("http://", "https://")) else f"http://{server}"
    return rest_client(url.rstrip("/"), model_name, version)


def is_listening(server: str) -> bool:
    """Whether anything takes connections at the address, named as in `connect`."""
    place = urlsplit(server if "://" in server else f"http://{server}")
    with contextlib.suppress(OSError, ValueError):
        port = place.port or {"https": 443, "grpc": 8500}.get(place.scheme, 80)
        socket.create_connection((place.hostname, port), timeout=2).close()
        return True
    return False
