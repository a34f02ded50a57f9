"""What gRPC and REST share: find the model, wait for a turn, run it, and tell of each request in a line."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from export.serving.errors import RequestError, as_request_error, invalid
from export.serving.limits import Gate, HeldBytes, Limits
from export.serving.loaded_model import LoadedModel
from export.serving.metrics import Metrics
from export.serving.model_versions import ModelVersions
from export.serving.request import Request, shortened
from export.serving.tensors import num_rows

LOG = logging.getLogger("bitkeras.serving")
DEFAULT_SIGNATURE = "serving_default"


class Service:
    """The models of a server, and what it has been asked.

    Attributes:
      models: {name: ModelVersions}.
      limits: what it takes on.
      gate, held: what it has taken on.
    """

    def __init__(self, models: Mapping[str, ModelVersions], limits: Limits):
        self.models, self.limits = dict(models), limits
        self.gate = Gate(limits.max_in_flight, limits.max_queued)
        self.held = HeldBytes(limits.max_held_bytes)
        self._metrics = Metrics()

    def find(self, request: Request) -> ModelVersions:
        """The model that is asked for; RequestError NOT_FOUND in the words of the API."""
        if request.model in self.models:
            return self.models[request.model]
        if request.api == "GetModelStatus":
            raise RequestError("NOT_FOUND", f"Could not find any versions of model {shortened(request.model)}")
        asked = "Latest({})" if request.version is None else f"Specific({{}}, {request.version})"
        raise RequestError("NOT_FOUND", f"Servable not found for request: {asked.format(shortened(request.model))}")

    def predict(
        self,
        request: Request,
        read: Callable[[LoadedModel], dict[str, np.ndarray]],
        *,
        outputs: Sequence[str] = (),
        seconds: float | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> dict[str, np.ndarray]:
        """Answer one request when its turn comes.

        Args:
          request: its version is set to the one that answered.
          read: model -> {input: array}; called when it is its turn, so that few are unpacked. It may set the
            request's signature.
          outputs: which ones; none for all.
          seconds: how long the client waits at most.
          wanted: False when the client has gone.

        Returns:
          {output: array}.

        Raises:
          RequestError: it is not answered.
        """
        model = self.find(request)
        with self.gate.admitted(min(self.limits.queue_seconds, seconds or np.inf)):
            if not wanted():
                raise RequestError("CANCELLED", "The client has gone.")
            with model.acquired(request.version, request.label) as loaded:
                request.version = loaded.version
                request.signature = request.signature or DEFAULT_SIGNATURE
                inputs = read(loaded)
                request.rows = num_rows(inputs)
                if request.rows > self.limits.max_rows:
                    raise invalid(
                        f"The request has {request.rows} rows and this server takes at most {self.limits.max_rows} "
                        "at once; send them in several requests."
                    )
                return loaded.run(request.signature, inputs, outputs)

    @contextlib.contextmanager
    def told(self, request: Request) -> Iterator[None]:
        """Counts and logs what happens inside; every exception leaves as a RequestError."""
        started, code = time.perf_counter(), "OK"
        try:
            yield
        except Exception as error:
            told = as_request_error(error)
            code = told.code
            if code == "INTERNAL":
                LOG.exception("a defect of the server")
            raise told from error
        finally:
            seconds = time.perf_counter() - started
            name = request.model if request.model in self.models else ""
            self._metrics.count(model=name, api=request.api, entrypoint=request.entrypoint, code=code, seconds=seconds)
            LOG.info(
                "%s %s model=%s version=%s signature=%s rows=%d code=%s ms=%.1f",
                *(request.entrypoint, request.api, shortened(request.model), request.version or request.label or "-"),
                *(shortened(request.signature) or "-", request.rows, code, 1000 * seconds),
            )

    def metrics_text(self) -> str:
        """The page for Prometheus."""
        versions = [
            ("bitkeras:serving:loaded_version", "Versions that answer.", {"model_name": name}, version)
            for name, model in self.models.items()
            for version in model.available()[-1:]
        ]
        return self._metrics.text(
            [
                *versions,
                ("bitkeras:serving:in_flight", "Requests that are computed now.", {}, self.gate.in_flight),
                ("bitkeras:serving:queued", "Requests that wait.", {}, self.gate.queued),
                ("bitkeras:serving:held_bytes", "Bytes of requests in memory.", {}, self.held.bytes),
            ]
        )
