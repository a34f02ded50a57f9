"""One version in memory, and the requests that it is warmed up with."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from export.serving.errors import RequestError, as_request_error, invalid
from export.serving.tensors import read_request
from export.serving.wire import message

# TensorFlow Serving reads it, and fails the load where a record of it fails.
WARMUP_REQUESTS = Path("assets.extra", "tf_serving_warmup_requests")
MAX_WARMUP_REQUESTS = 1000


def _is_not_of_the_loader(record: logging.LogRecord) -> bool:
    # TensorFlow finds the loader of sessions old, which is the one that TensorFlow Serving has.
    return "saved_model.loader_impl" not in record.getMessage()


class LoadedModel:
    """A SavedModel in a TF1 session, the way of TensorFlow Serving: asking for few outputs computes only these.

    Attributes:
      version: its number.
      signatures: {name: SignatureDef} of all that it holds.
    """

    def __init__(self, folder: str | Path, version: int):
        """Load and warm up.

        Args:
          folder: of saved_model.pb.
          version: what it is called.

        Raises:
          OSError, tf.errors.OpError, RequestError, ...: it does not load, or fails on a recorded request.
        """
        self.version = version
        logging.getLogger("tensorflow").addFilter(_is_not_of_the_loader)
        with tf.Graph().as_default() as graph:
            self._session = tf.compat.v1.Session(graph=graph)
        try:
            with graph.as_default():
                loaded = tf.compat.v1.saved_model.loader.load(self._session, ["serve"], str(folder))
            graph.finalize()
            self.signatures = dict(loaded.signature_def)
            self._warm_up(Path(folder) / WARMUP_REQUESTS)
        except BaseException:
            self._session.close()
            raise

    def run(self, signature_name: str, inputs: Mapping[str, np.ndarray], outputs: Sequence[str] = ()) -> dict:
        """{output: array} of one request; strings are bytes in arrays of objects.

        Args:
          signature_name: one of `signatures`.
          inputs: {input: array}, as `tensors.check_inputs` lets through.
          outputs: which ones; none for all.

        Raises:
          RequestError: an output that is not there, or what TensorFlow said.
        """
        signature = self.signatures[signature_name]
        wanted = list(outputs) or sorted(signature.outputs)
        for name in wanted:
            if name not in signature.outputs:
                raise invalid(
                    f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                    f"{{{','.join(sorted(signature.outputs))}}}."
                )
        fetches = {name: signature.outputs[name].name for name in wanted}
        try:
            return self._session.run(fetches, {signature.inputs[name].name: value for name, value in inputs.items()})
        except tf.errors.OpError as error:
            raise as_request_error(error) from error

    def close(self) -> None:
        """Give the memory back."""
        self._session.close()

    def _warm_up(self, path: Path) -> None:
        if not path.is_file():
            for name in filter(self.is_served, self.signatures):
                self._warm_up_without_records(name)
            return
        log = message("PredictionLog")
        for record in tf.data.TFRecordDataset(str(path)).take(MAX_WARMUP_REQUESTS).as_numpy_iterator():
            request = log.FromString(record).predict_log.request
            name = request.model_spec.signature_name or "serving_default"
            if name not in self.signatures:
                raise RequestError(
                    "FAILED_PRECONDITION", f"the warm-up asks for a signature {name!r} that is not there"
                )
            self.run(name, read_request(request, self.signatures[name]), request.output_filter)

    def _warm_up_without_records(self, name: str) -> None:
        # No bytes are known to be an image, so strings are none at all; a float image of zeros is one.
        inputs = {}
        for key, info in self.signatures[name].inputs.items():
            dtype = tf.dtypes.as_dtype(info.dtype)
            free = 0 if dtype == tf.string else 1
            shape = [free if dim.size < 0 else dim.size for dim in info.tensor_shape.dim]
            inputs[key] = np.zeros(shape, object if dtype == tf.string else dtype.as_numpy_dtype)
        try:
            self.run(name, inputs)
        except RequestError:
            pass  # says nothing of the model: nobody promised that it takes such a request

    def is_served(self, name: str) -> bool:
        """Whether `name` is a signature for requests; SavedModels hold others for their own start."""
        return name in self.signatures and self.signatures[name].method_name.startswith("tensorflow/serving/")
