"""Serve pushed models by TensorFlow Serving's protocol, gRPC and REST, on a laptop or in tests.

In production use TensorFlow Serving itself: `bitkeras serving_config` writes its files. This server has no encryption,
no accounts and no batching over requests. It follows the folder: the newest version that loads is served. Ctrl-C and
SIGTERM let it finish its answers.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading

from absl import flags

from export.serving.limits import Limits
from export.serving.server import Server, find_models
from pipelines.command_flags import CommandFlags
from pipelines.runtime import say

FLAGS = CommandFlags()
FLAGS.text("push_dir", None, "A folder that `bitkeras push` published into, or one of several such.", required=True)
FLAGS.text("model_name", None, "What requests call the model; none: the folder's name.")
FLAGS.text("host", "127.0.0.1", "The address to listen on; 0.0.0.0 lets others in, whoever they are.")
FLAGS.integer("grpc_port", 8500, "0: any that is free.", at_least=0)
FLAGS.integer("rest_port", 8501, "0: any that is free.", at_least=0)
FLAGS.text("labels", None, "Names of versions, as stable:3,canary:4; these are served beside the newest.")
FLAGS.integer("max_in_flight", 2, "Requests that are computed at once; each uses all cores.", at_least=1)
FLAGS.integer("max_queued", 64, "Requests that wait; further ones get 429 or RESOURCE_EXHAUSTED.", at_least=0)
FLAGS.integer("max_request_mb", 64, "The largest request.", at_least=1)
FLAGS.integer("max_rows", 64, "The most images in a request.", at_least=1)
FLAGS.number("client_seconds", 30.0, "How long a client may take to send a request by REST.", at_least=0.1)


def main(_) -> None:
    """Flags become plain arguments."""
    limits = Limits(
        max_in_flight=FLAGS.max_in_flight,
        max_queued=FLAGS.max_queued,
        max_request_bytes=FLAGS.max_request_mb << 20,
        max_held_bytes=4 * FLAGS.max_request_mb << 20,
        max_rows=FLAGS.max_rows,
        client_seconds=FLAGS.client_seconds,
    )
    options = FLAGS.values(only=["push_dir", "model_name", "host", "grpc_port", "rest_port"])
    serve(**options, labels=parse_labels(FLAGS.labels), limits=limits)


def serve(
    *,
    push_dir: str,
    model_name: str | None,
    host: str,
    grpc_port: int,
    rest_port: int,
    labels: dict[str, int],
    limits: Limits,
) -> None:
    """Serves until a signal comes.

    Raises:
      UserError: nothing to serve, or a port that is taken.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    log_to_stderr()
    models = find_models(push_dir, model_name)
    server = Server(models, host=host, grpc_port=grpc_port, rest_port=rest_port, labels=labels, limits=limits)
    say(f"serving {', '.join(models)} on grpc://{host}:{server.grpc_port} http://{host}:{server.rest_port}")
    # Not for ever: where the system hands the signal to another thread, Python runs the handler only when this one
    # wakes (seen in one start of twelve under load: the server went on serving).
    while not stop.wait(0.5):
        pass
    server.stop()


def parse_labels(text: str | None) -> dict[str, int]:
    """'stable:3,canary:4' -> {label: version}; flags.Error where it is not of that form."""
    labels = {}
    for part in filter(None, (text or "").split(",")):
        label, _, version = part.partition(":")
        # The characters that TensorFlow Serving allows.
        if not (label.isascii() and label.replace("_", "a").isalnum() and version.isascii() and version.isdigit()):
            raise flags.Error(f"--labels={text} is not of the form LABEL:VERSION,... with letters, digits and _")
        labels[label] = int(version)
    return labels


def log_to_stderr() -> None:
    """A line a request, and a line for what happens to versions."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("bitkeras.serving")
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)


if __name__ == "__main__":
    from pipelines.cli import main as command_line

    command_line(["serve", *sys.argv[1:]])
