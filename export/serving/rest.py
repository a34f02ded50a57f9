"""The paths of TensorFlow Serving's REST interface, without a socket."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from export.serving import json_codec, metrics
from export.serving.errors import RequestError, invalid
from export.serving.model_info import metadata_json, status_json
from export.serving.request import Request
from export.serving.service import Service
from export.serving.tensors import check_inputs

_TARGET = r"/v1/models(?:/(?P<model>[^/:]+))?(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_PREDICT = re.compile(rf"(?i:{_TARGET}:(?P<method>classify|regress|predict))", re.ASCII)
_ABOUT = re.compile(rf"(?i:{_TARGET}(?P<metadata>/metadata)?)", re.ASCII)
METRICS_PATH = "/monitoring/prometheus/metrics"
JSON = "application/json"


def answer(service: Service, method: str, target: str, body: bytes) -> tuple[int, str, bytes]:
    """(status, content type, body) of one request; never raises for what a client may do."""
    path = target.partition("?")[0]
    if method == "GET" and path == METRICS_PATH:
        return 200, metrics.CONTENT_TYPE, service.metrics_text().encode()
    request = Request("REST", "unknown")
    try:
        with service.told(request):
            return 200, JSON, _answer(service, request, method, path, body)
    except RequestError as error:
        return error.http_status, JSON, json.dumps({"error": str(error)}).encode()


def refusal(service: Service, error: RequestError) -> tuple[int, str, bytes]:
    """The answer to what is refused before it is read; counted and logged as others are."""
    try:
        with service.told(Request("REST", "unread")):
            raise error
    except RequestError as told:
        return told.http_status, JSON, json.dumps({"error": str(told)}).encode()


def _answer(service: Service, request: Request, method: str, path: str, body: bytes) -> bytes:
    predict = _PREDICT.fullmatch(path) if method == "POST" else None
    about = _ABOUT.fullmatch(path) if method == "GET" else None
    if predict and predict["model"]:
        _fill(request, predict, predict["method"].capitalize())
        if request.api != "Predict":
            raise RequestError("UNIMPLEMENTED", f"This server answers :predict and not :{predict['method']}.")
        return _predict(service, request, body)
    if about and about["metadata"] and about["model"]:
        _fill(request, about, "GetModelMetadata")
        return metadata_json(service, request)
    if about and about["model"]:
        _fill(request, about, "GetModelStatus")
        return status_json(service, request)
    if about and path.lower() == "/v1/models":
        request.api = "ListModels"
        # TensorFlow Serving says "Missing model name in request." here.
        return json.dumps({"models": sorted(service.models)}).encode()
    raise invalid(f"Malformed request: {method} {path[:256]}")


def _fill(request: Request, found: Mapping, api: str) -> None:
    request.api, request.model, request.label = api, found["model"], found["label"]
    if found["version"] is not None:
        if len(found["version"]) > 19 or int(found["version"]) >= 2**63:
            raise invalid(f"Failed to convert version: {found['version'][:64]} to numeric.")
        request.version = int(found["version"])


def _predict(service: Service, request: Request, body: bytes) -> bytes:
    is_row_form = False

    def read(loaded):
        nonlocal is_row_form
        document = json_codec.parse(body)
        name = request.signature = document.get("signature_name") or request.signature
        if not loaded.is_served(name):
            raise invalid(f'Serving signature name: "{name[:64]}" not found in signature def')
        inputs, is_row_form = json_codec.read_inputs(document, loaded.signatures[name])
        check_inputs(inputs, loaded.signatures[name])
        return inputs

    outputs = service.predict(request, read)
    return json_codec.write_outputs(outputs, as_rows=is_row_form)
