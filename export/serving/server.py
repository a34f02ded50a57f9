"""gRPC and REST around the models of a folder, from start to the last answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path

from bitkeras.errors import UserError, first_line
from export.serving import grpc_service
from export.serving.http_connections import BoundedHTTPServer
from export.serving.http_handler import make_handler
from export.serving.limits import Limits
from export.serving.model_versions import ModelVersions
from export.serving.service import Service
from export.serving.wire import message
from export.versions import list_versions

LOG = logging.getLogger("bitkeras.serving")
# As TensorFlow Serving.
POLL_SECONDS = 1.0
DRAIN_SECONDS = 30.0


def find_models(push_dir: str | Path, model_name: str | None = None) -> dict[str, Path]:
    """{name: folder of versions}: `push_dir` itself, or where it has no versions the folders in it that have some.

    Raises:
      UserError: there is no version, or a name for several models.
    """
    push_dir = Path(push_dir).resolve()
    if list_versions(push_dir):
        return {model_name or push_dir.name: push_dir}
    below = sorted(path for path in push_dir.glob("*/") if path.is_dir() and list_versions(path))
    if not below:
        raise UserError(f"There is no version of a model in {push_dir} or a folder in it; run `bitkeras push` first.")
    if model_name and len(below) > 1:
        names = ", ".join(path.name for path in below)
        raise UserError(f"{push_dir} holds the models {names}, so --model_name={model_name} fits none; leave it out.")
    return {model_name or path.name: path for path in below}


class Server:
    """A running server.

    Attributes:
      service: what it answers with.
      grpc_port, rest_port: where it listens.
    """

    def __init__(
        self,
        models: Mapping[str, Path],
        *,
        host: str = "127.0.0.1",
        grpc_port: int = 0,
        rest_port: int = 0,
        labels: Mapping[str, int] | None = None,
        limits: Limits | None = None,
    ):
        """Load the models and listen.

        Args:
          models: {name: folder of versions}.
          host: the address to listen on.
          grpc_port, rest_port: 0 is any that is free.
          labels: {label: version}, of a single model.
          limits: what it takes on.

        Raises:
          UserError: a package is missing, a model has no version that loads, or a port is taken.
        """
        message("PredictRequest")  # before minutes of loading
        limits = limits or Limits()
        versions = {name: ModelVersions(name, folder, labels=labels) for name, folder in models.items()}
        for name, model in versions.items():
            model.poll()
            if not model.available():
                raise UserError(f"No version of {name} in {models[name]} loads; push it again.")
        self.service = Service(versions, limits)
        try:
            self._http = BoundedHTTPServer(
                (host, rest_port),
                make_handler(self.service),
                max_connections=limits.max_connections,
                client_seconds=limits.client_seconds,
            )
        except OSError as error:
            raise UserError(
                f"The address {host}:{rest_port} cannot be listened on ({error.strerror}); pass another --rest_port, "
                "or 0 for any."
            ) from error
        self.rest_port = self._http.server_address[1]
        self._grpc, self.grpc_port = grpc_service.start(self.service, f"{_bracketed(host)}:{grpc_port}")
        self._stopping = threading.Event()
        threading.Thread(target=self._http.serve_forever, name="http", daemon=True).start()
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Take nothing more, answer what has arrived, end."""
        LOG.info("stopping: %d requests are being answered", self.service.gate.in_flight + self.service.gate.queued)
        self._stopping.set()
        ended = self._grpc.stop(DRAIN_SECONDS)
        self._http.drain(DRAIN_SECONDS)
        ended.wait()
        self._watcher.join(DRAIN_SECONDS)
        LOG.info("stopped")

    def _watch(self) -> None:
        told = None
        while not self._stopping.wait(POLL_SECONDS):
            for model in self.service.models.values():
                try:
                    model.poll()
                except Exception as error:  # noqa: BLE001 - a folder that cannot be read now may be read again later
                    if repr(error) != told:
                        LOG.error("model=%s cannot be looked after: %s", model.name, first_line(error))
                    told = repr(error)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
