"""REST paths, codes and texts, without sockets; the answers against the SavedModel itself."""

from __future__ import annotations

import base64
import json
import logging
import re
import threading
import time

import numpy as np
import pytest
import tensorflow as tf
from foreign_model import waiting_service

from export.serving import rest
from export.serving.errors import RequestError


@pytest.fixture
def get(server):
    def ask(path):
        status, content_type, body = rest.answer(server.service, "GET", path, b"")
        assert content_type == "application/json"
        return status, json.loads(body)

    return ask


@pytest.fixture
def post(server):
    def ask(path, document):
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        status, _, answer = rest.answer(server.service, "POST", path, body)
        return status, json.loads(answer)

    return ask


@pytest.mark.parametrize("path", ["/v1/models/small:predict", "/V1/MODELS/small/versions/1:Predict"])
def test_rows_are_answered_as_the_saved_model_does(post, loaded, images, path):
    wanted = loaded.signatures["serving_default"](image_bytes=tf.constant(images))
    status, answer = post(path, {"instances": [{"b64": base64.b64encode(image).decode()} for image in images]})
    assert status == 200 and len(answer["predictions"]) == len(images)
    for name, tensor in wanted.items():
        got = [row[name] for row in answer["predictions"]]
        if tensor.dtype == tf.string:
            assert np.array(got).tolist() == np.char.decode(tensor.numpy().astype("S"), "utf-8").tolist()
        else:
            np.testing.assert_allclose(np.array(got, float), tensor, atol=1e-5)


def test_columns_are_the_same_as_rows(post, images):
    encoded = [{"b64": base64.b64encode(image).decode()} for image in images]
    rows = post("/v1/models/small:predict", {"instances": encoded})[1]["predictions"]
    columns = post("/v1/models/small:predict", {"inputs": {"image_bytes": encoded}})[1]["outputs"]
    for name, values in columns.items():
        assert [row[name] for row in rows] == values


def test_a_foreign_model_is_served_by_its_own_signatures(post):
    status, answer = post("/v1/models/foreign:predict", {"inputs": {"x": [3, 1, 0], "n": [2, 0, 0]}})
    assert status == 200
    # 1/0 and 0/0 are no numbers in JSON.
    assert answer == {"outputs": {"quotient": [1.5, None, None], "total": [3, 1, 1], "name": ["2", "0", "0"]}}
    asked = {"signature_name": "double", "instances": [[1, 2], [3, 4]]}
    assert post("/v1/models/foreign/versions/7:predict", asked) == (200, {"predictions": [[2, 4], [6, 8]]})
    assert post("/v1/models/foreign:predict", {"signature_name": "reduce", "inputs": [1, 2]}) == (
        200,
        {"outputs": {"sum": 3.0, "x": [1.0, 2.0]}},
    )


@pytest.mark.parametrize(
    ("path", "document", "status", "told"),
    [
        ("/v1/models/none:predict", {"inputs": []}, 404, r"Servable not found for request: Latest\(none\)"),
        ("/v1/models/small/versions/9:predict", {}, 404, r"Servable not found for request: Specific\(small, 9\)"),
        ("/v1/models/small/labels/new:predict", {}, 400, "Unrecognized servable version label: new"),
        ("/v1/models/small/versions/99999999999999999999:predict", {}, 400, "Failed to convert version: 9+ to numeric"),
        ("/v1/models/small:predict", {"signature_name": "no", "inputs": 1}, 400, '"no" not found in signature def'),
        ("/v1/models/small:predict", {"signature_name": "__saved_model_init_op"}, 400, "not found in signature def"),
        ("/v1/models/small:predict", {"inputs": [["a"]]}, 400, r"the shape \[1,1\], the signature takes \[\?\]"),
        ("/v1/models/foreign:predict", {"inputs": {"x": [1, 2], "n": [1, 2, 3]}}, 400, "Incompatible shapes"),
        ("/v1/models/foreign:predict", {"signature_name": "reduce", "instances": [1]}, 400, "no shape information"),
        ("/v1/models/foreign:predict", {"inputs": {"x": [1] * 33, "n": [1] * 33}}, 400, "33 rows .* at most 32"),
        ("/v1/models/small:classify", {}, 501, "not :classify"),
        ("/v1/models/small:explain", {}, 400, "Malformed request: POST /v1/models/small:explain"),
        ("/v1/models/small", {}, 400, "Malformed request: POST /v1/models/small"),
        ("/v1/models/:predict", {}, 400, "Malformed request"),
        ("/v1/models/small/versions/1/labels/a:predict", {}, 400, "Malformed request"),
        ("/v1/models/small/versions/\u0663:predict", {}, 400, "Malformed request"),
        ("/v1/models/../small:predict", {}, 400, "Malformed request"),
        ("/v1/models/..:predict", {}, 404, "Servable not found"),
        ("/v1/models/%2e%2e%2fetc:predict", {}, 404, "Servable not found"),
        ("/v1/models/small\0:predict", {}, 404, "Servable not found"),
        ("/v1/models/" + "n" * 10_000 + ":predict", {}, 404, "Servable not found"),
        ("/", {}, 400, "Malformed request"),
    ],
)
def test_what_cannot_be_answered_has_code_and_text(post, path, document, status, told):
    got, answer = post(path, document)
    assert (
        got == status and set(answer) == {"error"} and re.search(told, answer["error"]) and len(answer["error"]) < 400
    )


def test_status_versions_and_metadata(get, loaded):
    available = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/small", "/v1/models/small/versions/1", "/v1/models/small?x=1"):
        assert get(path) == (200, {"model_version_status": [available]})
    assert get("/v1/models/none") == (404, {"error": "Could not find any versions of model none"})
    assert get("/v1/models/small/versions/2") == (404, {"error": "Could not find version 2 of model small"})
    assert get("/v1/models") == (200, {"models": ["foreign", "small"]})
    assert get("/v1/models/none/metadata")[0] == 404
    status, answer = get("/v1/models/small/metadata")
    assert status == 200 and answer["model_spec"] == {"name": "small", "signature_name": "", "version": "1"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert set(loaded.signatures) < set(signatures)
    for name, function in loaded.signatures.items():
        assert set(signatures[name]["outputs"]) == set(function.structured_outputs)
    described = signatures["serving_default"]["inputs"]["image_bytes"]
    assert described["dtype"] == "DT_STRING" and described["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]


def test_the_log_has_a_line_a_request_without_its_content(post, caplog, images):
    caplog.set_level(logging.INFO, "bitkeras.serving")
    content = base64.b64encode(images[0]).decode()
    post("/v1/models/small:predict", {"instances": [{"b64": content}] * 2})
    post("/v1/models/a\nINFO forged:predict", {"instances": ["secret"]})
    post("/v1/models/small:predict", {"instances": ["secret"], "signature_name": "x\ny"})
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3 and not any("\n" in line or "secret" in line or content[:32] in line for line in lines)
    assert re.fullmatch(
        r"REST Predict model=small version=1 signature=serving_default rows=2 code=OK ms=\d+\.\d", lines[0]
    )
    assert "code=NOT_FOUND" in lines[1] and "code=INVALID_ARGUMENT" in lines[2]


def parse_metrics(text: str) -> dict[str, float]:
    """Every line by the grammar of the text format; {line without its value: value}."""
    numbers, typed = {}, set()
    for line in text.splitlines():
        if line.startswith("#"):
            kind, name = re.fullmatch(r"# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) .+", line).groups()
            assert (kind, name) not in typed
            typed.add((kind, name))
            continue
        name, value = re.fullmatch(
            r'([a-zA-Z_:][a-zA-Z0-9_:]*(?:\{\w+="[^"\n]*"(?:,\w+="[^"\n]*")*\})?) (\d+(?:\.\d+)?)', line
        ).groups()
        assert name not in numbers
        numbers[name] = float(value)
    return numbers


def test_metrics_count_what_was_asked(server, post):
    def now():
        status, content_type, body = rest.answer(server.service, "GET", rest.METRICS_PATH, b"")
        assert status == 200 and content_type.startswith("text/plain; version=0.0.4")
        return parse_metrics(body.decode())

    def grown(key):
        return after.get(key, 0) - before.get(key, 0)

    before = now()
    for _ in range(3):
        post("/v1/models/foreign:predict", {"signature_name": "double", "inputs": [[1, 2]]})
    post("/v1/models/foreign:predict", {})
    for number in range(50):
        post(f"/v1/models/unknown{number}:predict", {})
    after = now()
    count = ':tensorflow:serving:request_count{model_name="%s",API="Predict",entrypoint="REST",status="%s"}'
    assert grown(count % ("foreign", "OK")) == 3 and grown(count % ("foreign", "INVALID_ARGUMENT")) == 1
    # Fifty names of a client are one row: memory does not grow with what clients make up.
    assert grown(count % ("", "NOT_FOUND")) == 50 and len(after) - len(before) < 60
    of = 'model_name="foreign",API="Predict",entrypoint="REST"'
    assert grown(f":tensorflow:serving:request_latency_count{{{of}}}") == 4
    buckets = [
        value for key, value in after.items() if key.startswith(f":tensorflow:serving:request_latency_bucket{{{of}")
    ]
    assert buckets == sorted(buckets) and buckets[-1] == after[f":tensorflow:serving:request_latency_count{{{of}}}"]
    assert after['bitkeras:serving:loaded_version{model_name="foreign"}'] == 7
    assert after["bitkeras:serving:in_flight"] == after["bitkeras:serving:queued"] == 0


def test_past_what_it_takes_it_sheds_and_stays_healthy(tmp_path):
    service, model = waiting_service(tmp_path, max_in_flight=2, max_queued=3)
    statuses, body = [], json.dumps({"instances": [1]}).encode()

    def ask():
        statuses.append(rest.answer(service, "POST", "/v1/models/waits:predict", body)[0])

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    while len(statuses) < 7 or model.running < 2:
        time.sleep(0.005)
    # Seven are refused while the five that fit are still there, and health does not wait for them.
    assert statuses == [429] * 7 and rest.answer(service, "GET", "/v1/models/waits", b"")[0] == 200
    numbers = parse_metrics(rest.answer(service, "GET", rest.METRICS_PATH, b"")[2].decode())
    assert numbers["bitkeras:serving:in_flight"] == 2 and numbers["bitkeras:serving:queued"] == 3
    model.go.set()
    for thread in threads:
        thread.join(30)
    assert sorted(statuses) == [200] * 5 + [429] * 7 and model.most_running == 2


def test_a_defect_is_500_without_telling_where(tmp_path, caplog):
    service, model = waiting_service(tmp_path)
    model.run = lambda *_: {}["/secret/path"]
    status, _, body = rest.answer(service, "POST", "/v1/models/waits:predict", b'{"instances": [1]}')
    assert status == 500 and b"secret" not in body and "a defect of the server" in caplog.text


def test_a_refusal_is_counted(server):
    status, _, body = rest.refusal(server.service, RequestError("RESOURCE_EXHAUSTED", "too large", http_status=413))
    assert status == 413 and json.loads(body) == {"error": "too large"}
