"""What goes wrong with a request: a gRPC code, its HTTP status, and TensorFlow Serving's sentence."""

from __future__ import annotations

import tensorflow as tf

# Those of TensorFlow Serving's REST interface; what is not listed is 500.
HTTP_STATUS = {
    "OK": 200,
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
# TensorFlow numbers its errors as gRPC does.
CODES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"),
    *("PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"),
    *("INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
)


class RequestError(Exception):
    """A request that is not answered.

    Attributes:
      code: the name of a gRPC status code.
      http_status: what REST answers.
    """

    def __init__(self, code: str, message: str, *, http_status: int | None = None):
        super().__init__(message)
        self.code = code
        self.http_status = http_status or HTTP_STATUS.get(code, 500)


def invalid(message: str) -> RequestError:
    """INVALID_ARGUMENT."""
    return RequestError("INVALID_ARGUMENT", message)


def as_request_error(error: Exception) -> RequestError:
    """Any exception as what a client is told: nothing of files and lines of this machine."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, tf.errors.OpError):
        return RequestError(code_of(error), what_was_wrong(error))
    if isinstance(error, MemoryError):
        return RequestError("RESOURCE_EXHAUSTED", "There is not the memory for this request; send fewer rows.")
    return RequestError("INTERNAL", f"The server failed on this request with {type(error).__name__}.")


def code_of(error: tf.errors.OpError) -> str:
    """The gRPC name of a TensorFlow error."""
    return CODES[error.error_code]


def what_was_wrong(error: tf.errors.OpError) -> str:
    """The one line of a TensorFlow error that says something."""
    # The first line is only that there was an error; after the one that counts come the names of the nodes.
    lines = [line.strip() for line in error.message.splitlines()]
    told = [line for line in lines if line and not line.startswith(("Graph execution error", "Detected at node"))]
    return (told or [type(error).__name__])[0][:512]
