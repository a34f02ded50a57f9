"""Ask a model server by REST."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Sequence

import numpy as np

from bitkeras.errors import UserError
from export.serving.errors import RequestError
from export.serving.remote_models import TIMEOUT_SECONDS, only_model

# A refusal is retried after 0.5 s, 1 s, ... up to 8 s: half a minute in all, in which a server restarts.
NUM_RETRIES = 7
_CODES_BY_STATUS = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 413: "RESOURCE_EXHAUSTED", 429: "RESOURCE_EXHAUSTED"}
_CODES_BY_STATUS |= {503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}


@contextlib.contextmanager
def rest_client(url: str, model_name: str | None, version: int | None):
    """As `remote.connect`, of an address with http:// or https://."""
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
            model_name = only_model(url, _listed(call))
        path = f"/v1/models/{model_name}{'' if version is None else f'/versions/{version}'}:predict"
        yield ask


def _listed(call: Callable[..., dict]) -> list[str]:
    try:
        return call("GET", "/v1/models").get("models", [])
    except RequestError:
        return []


def _array(values: list) -> np.ndarray:
    array = np.array(values)
    # null stands for what JSON cannot write.
    return array.astype(np.float64) if array.dtype == object else array
