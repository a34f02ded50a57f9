"""Ask a model server by gRPC."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from bitkeras.errors import UserError
from export.serving.errors import CODES, RequestError
from export.serving.grpc_service import MODELS_TRAILER
from export.serving.remote_models import TIMEOUT_SECONDS, only_model
from export.serving.wire import message

NUM_ATTEMPTS = 5  # gRPC takes no more


@contextlib.contextmanager
def grpc_client(address: str, model_name: str | None, version: int | None):
    """As `remote.connect`, of host:port."""
    import grpc

    policy = {
        "maxAttempts": NUM_ATTEMPTS,
        "initialBackoff": "0.5s",
        "maxBackoff": "8s",
        "backoffMultiplier": 2.5,
        "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
    }
    options = [
        ("grpc.service_config", json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})),
        ("grpc.max_receive_message_length", -1),
    ]

    def ask(images: Sequence[bytes]) -> dict[str, np.ndarray]:
        request = message("PredictRequest")()
        request.model_spec.name, request.model_spec.signature_name = model_name, "serving_default"
        if version is not None:
            request.model_spec.version.value = version
        request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(list(images), tf.string, [len(images)]))
        try:
            response = message("PredictionServiceStub")(channel).Predict(request, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            raise _told(address, error) from error
        return {name: _decoded(tf.make_ndarray(tensor)) for name, tensor in response.outputs.items()}

    with grpc.insecure_channel(address, options) as channel:
        if model_name is None:
            model_name = only_model(f"grpc://{address}", _listed_by_grpc(address, channel))
        yield ask


def _listed_by_grpc(address: str, channel) -> list[str]:
    import grpc

    try:
        message("ModelServiceStub")(channel).GetModelStatus(
            message("GetModelStatusRequest")(model_spec={}), timeout=TIMEOUT_SECONDS
        )
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAVAILABLE:
            raise _told(address, error) from error
        trailer = dict(error.trailing_metadata() or ())
        return [name for name in str(trailer.get(MODELS_TRAILER, "")).split(",") if name]
    return []


def _told(address: str, error) -> Exception:
    code = error.code().name
    if code == "UNAVAILABLE":
        return UserError(f"The server grpc://{address} does not answer; start it, or pass another --server.")
    return RequestError(code if code in CODES else "UNKNOWN", error.details())


def _decoded(array: np.ndarray) -> np.ndarray:
    return np.char.decode(array.astype("S"), "utf-8") if array.dtype == object else array
