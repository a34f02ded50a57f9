"""Ask a server, ours or TensorFlow Serving, for one signature of a model: by REST or by gRPC."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from bitkeras.errors import UserError
from export.serving.errors import CODES, RequestError
from export.serving.grpc_service import MODELS_TRAILER
from export.serving.wire import message

# A refusal is retried after 0.25 s, 0.5 s, ... up to 8 s: half a minute in all, in which a server restarts.
NUM_RETRIES = 7
NUM_GRPC_ATTEMPTS = 5  # gRPC takes no more
TIMEOUT_SECONDS = 120.0
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
        return _grpc_client(server[len("grpc://") :].rstrip("/"), model_name, version)
    url = server if server.startswith(("http://", "https://")) else f"http://{server}"
    return _rest_client(url.rstrip("/"), model_name, version)


@contextlib.contextmanager
def _rest_client(url: str, model_name: str | None, version: int | None):
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    retry = Retry(
        NUM_RETRIES,
        status_forcelist=[429, 503],
        allowed_methods=None,  # predictions change nothing, so POST too is safe to repeat
        backoff_factor=0.25,
        backoff_max=8,
        raise_on_status=False,
    )

    def call(method: str, path: str, **options) -> dict:
        try:
            response = session.request(method, url + path, timeout=TIMEOUT_SECONDS, **options)
            answer = response.json()
        except requests.exceptions.JSONDecodeError as error:
            raise UserError(f"{url} answers no JSON, so it is no model server; pass its REST address.") from error
        except requests.exceptions.RequestException as error:
            raise UserError(f"The server {url} does not answer; start it, or pass another --server.") from error
        if not response.ok:
            told = str(answer.get("error", answer)) if isinstance(answer, dict) else str(answer)
            raise RequestError(_CODES_BY_STATUS.get(response.status_code, "INTERNAL"), told)
        return answer

    def ask(images: Sequence[bytes]) -> dict[str, np.ndarray]:
        encoded = [{"b64": base64.b64encode(image).decode("ascii")} for image in images]
        answer = call("POST", path, data=json.dumps({"inputs": encoded}).encode())
        return {name: _array(values) for name, values in answer["outputs"].items()}

    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        if model_name is None:
            model_name = _only_model(url, _listed(call))
        path = f"/v1/models/{model_name}{'' if version is None else f'/versions/{version}'}:predict"
        yield ask


_CODES_BY_STATUS = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 413: "RESOURCE_EXHAUSTED", 429: "RESOURCE_EXHAUSTED"}
_CODES_BY_STATUS |= {503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}


def _listed(call: Callable[..., dict]) -> list[str]:
    try:
        return call("GET", "/v1/models").get("models", [])
    except RequestError:
        return []


@contextlib.contextmanager
def _grpc_client(address: str, model_name: str | None, version: int | None):
    import grpc

    policy = {
        "maxAttempts": NUM_GRPC_ATTEMPTS,
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
            model_name = _only_model(f"grpc://{address}", _listed_by_grpc(address, channel))
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


def _array(values: list) -> np.ndarray:
    array = np.array(values)
    # null stands for what JSON cannot write.
    return array.astype(np.float64) if array.dtype == object else array


def _decoded(array: np.ndarray) -> np.ndarray:
    return np.char.decode(array.astype("S"), "utf-8") if array.dtype == object else array


def _only_model(server: str, names: list[str]) -> str:
    if len(names) != 1:
        told = f"serves {', '.join(names)}" if names else "does not tell which models it serves"
        raise UserError(f"{server} {told}; pass --model_name.")
    return names[0]
