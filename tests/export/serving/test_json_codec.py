"""Row and columnar form against what TensorFlow Serving's documentation shows, and everything that is no request."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
import tensorflow as tf
from foreign_model import signature_of

from export.serving import json_codec
from export.serving.errors import RequestError

IMAGES = signature_of(image_bytes=(tf.string, [None]))
PAIR = signature_of(x=(tf.float32, [None, 2]), n=(tf.int64, [None]))
FLAGS = signature_of(flag=(tf.bool, [None]))


def read(text, of):
    return json_codec.read_inputs(json_codec.parse(text if isinstance(text, bytes) else json.dumps(text).encode()), of)


def b64(content: bytes) -> dict:
    return {"b64": base64.b64encode(content).decode()}


@pytest.mark.parametrize("content", [b"", b"\0\xff\0", "nävus".encode()])
def test_bytes_are_read_in_every_form(content):
    for document in (
        {"instances": [b64(content)] * 2},
        {"instances": [{"image_bytes": b64(content)}] * 2},
        {"inputs": [b64(content)] * 2},
        {"inputs": {"image_bytes": [b64(content)] * 2}},
    ):
        inputs, is_row_form = read(document, IMAGES)
        assert inputs["image_bytes"].tolist() == [content] * 2 and is_row_form == ("instances" in document)


def test_text_is_utf_8():
    assert read({"instances": ["nävus"]}, IMAGES)[0]["image_bytes"].tolist() == ["nävus".encode()]


def test_rows_and_columns_are_the_same_tensors():
    rows, _ = read({"instances": [{"x": [1, 2.5], "n": 3}, {"x": [0, -1], "n": 2**62}]}, PAIR)
    columns, _ = read({"inputs": {"x": [[1, 2.5], [0, -1]], "n": [3, 2**62]}}, PAIR)
    for inputs in (rows, columns):
        assert inputs["x"].dtype == np.float32 and inputs["x"].tolist() == [[1, 2.5], [0, -1]]
        assert inputs["n"].dtype == np.int64 and inputs["n"].tolist() == [3, 2**62]


def test_one_base64_object_is_a_scalar_as_in_tensorflow_serving():
    assert read({"inputs": b64(b"x")}, IMAGES)[0]["image_bytes"].shape == ()


@pytest.mark.parametrize(
    ("body", "of", "told"),
    [
        (b"", IMAGES, "JSON Parse error: The document is empty"),
        (b"{", IMAGES, "JSON Parse error: .* at offset: 1"),
        (b"\xff\xfe", IMAGES, "JSON Parse error"),
        (b"[" * 100_000, IMAGES, "JSON Parse error: it is nested too deeply"),
        (b'{"inputs": [' + b"9" * 10_000 + b"]}", PAIR, "JSON Parse error|expecting an object"),
        (b'{"inputs": [NaN]}', FLAGS, "NaN is no JSON"),
        (b'{"inputs": {"x": [[-Infinity, 1]], "n": [1]}}', PAIR, "-Infinity is no JSON"),
        (b"[1]", IMAGES, r"JSON Value: \[1\] Is not object"),
        ({}, IMAGES, "Missing 'inputs' or 'instances' key"),
        ({"signature_name": 3, "inputs": ["a"]}, IMAGES, "'signature_name' key must be a string value"),
        ({"instances": ["a"], "inputs": ["a"]}, IMAGES, "only one of 'inputs' or 'instances'"),
        ({"instances": {"a": 1}}, IMAGES, "Excepting 'instances' to be an list/array"),
        ({"instances": []}, IMAGES, "No values in 'instances' array"),
        ({"instances": [{"image_bytes": "a"}, "a"]}, IMAGES, "Expecting object but got list at item 1"),
        ({"instances": ["a", {"image_bytes": "a"}]}, IMAGES, "Expecting value/list but got object at item 1"),
        ({"instances": [{"x": [1, 2]}]}, PAIR, "Failed to process element: 0 .* keys must be equal to: n,x"),
        ({"instances": [{"x": [1, 2], "n": 1, "more": 1}]}, PAIR, "keys must be equal to: n,x"),
        ({"instances": [1]}, PAIR, "instances is a plain list"),
        ({"inputs": [1]}, PAIR, "inputs is a plain value/list"),
        ({"inputs": {"x": [[1, 2]]}}, PAIR, "Missing named input: n in 'inputs' object"),
        ({"inputs": {"x": [[1, 2], [1]], "n": [1, 1]}}, PAIR, "Encountered list at unexpected size"),
        ({"inputs": {"x": [["1", "2"]], "n": [1]}}, PAIR, "is not of expected type: float32"),
        ({"inputs": {"x": [[None, 2]], "n": [1]}}, PAIR, "is not of expected type: float32"),
        ({"inputs": {"x": [[1, 2]], "n": [1.5]}}, PAIR, "is not of expected type: int64"),
        ({"inputs": {"x": [[1, 2]], "n": [True]}}, PAIR, "is not of expected type: int64"),
        ({"inputs": {"x": [[1e300, 2]], "n": [1]}}, PAIR, "float32 without loss of precision"),
        ({"inputs": {"x": [[1, 2]], "n": [2**63]}}, PAIR, "int64"),
        ({"inputs": [1, 0]}, FLAGS, "is not of expected type: bool"),
        ({"instances": [1]}, IMAGES, "1 is not of expected type: string"),
        ({"instances": [["a"], "b"]}, IMAGES, "Encountered list at unexpected size"),
        ({"instances": [{"b64": "not base64!"}]}, IMAGES, "Unable to base64 decode"),
        ({"instances": [{"b64": "ä"}]}, IMAGES, "Unable to base64 decode"),
        ({"instances": [{"b64": 3}]}, IMAGES, "keys must be equal to: image_bytes"),
    ],
)
def test_what_is_no_request_is_told(body, of, told):
    with pytest.raises(RequestError, match=told) as refused:
        read(body, of)
    assert refused.value.code == "INVALID_ARGUMENT" and refused.value.http_status == 400
    assert len(str(refused.value)) < 300


def test_json_of_millions_of_empty_lists_is_refused_before_it_is_parsed():
    with pytest.raises(RequestError, match="at most 5000000 are taken"):
        json_codec.parse(b'{"inputs": [' + b"[]," * 2_500_001 + b"[]]}")


def test_answers_are_written_as_rows_and_columns():
    outputs = {"p": np.array([[0.25, 0.75]], np.float32), "name": np.array(["nävus".encode()], object)}
    assert json.loads(json_codec.write_outputs(outputs, as_rows=True)) == {
        "predictions": [{"p": [0.25, 0.75], "name": "nävus"}]
    }
    assert json.loads(json_codec.write_outputs(outputs, as_rows=False)) == {
        "outputs": {"p": [[0.25, 0.75]], "name": ["nävus"]}
    }


def test_a_single_output_stands_without_its_name():
    outputs = {"y": np.array([1, 2])}
    assert json.loads(json_codec.write_outputs(outputs, as_rows=True)) == {"predictions": [1, 2]}
    assert json.loads(json_codec.write_outputs(outputs, as_rows=False)) == {"outputs": [1, 2]}


def test_float32_comes_back_to_the_bit():
    bits = np.random.default_rng(0).integers(0, 2**31 - 2**23, 1000, dtype=np.uint32)  # any finite positive float
    values = np.concatenate([bits.view(np.float32), -bits.view(np.float32)])
    written = json.loads(json_codec.write_outputs({"y": values}, as_rows=False))["outputs"]
    np.testing.assert_array_equal(np.array(written, np.float32), values)


def test_what_json_lacks_is_null_and_bytes_are_base64():
    outputs = {
        "y": np.array([[np.nan, 1], [np.inf, -np.inf]], np.float32),
        "raw_bytes": np.array([b"\xff", b""], object),
        "text": np.array([b"\xff", b""], object),
    }
    text = json_codec.write_outputs(outputs, as_rows=False)
    answer = json.loads(text, parse_constant=lambda token: pytest.fail(f"{token} in JSON"))["outputs"]
    assert answer["y"] == [[None, 1.0], [None, None]]
    assert answer["raw_bytes"] == [{"b64": "/w=="}, {"b64": ""}] and answer["text"] == ["\ufffd", ""]


def test_empty_tensors_are_empty_lists():
    outputs = {"y": np.zeros([0, 3], np.float32), "text": np.zeros([0], object)}
    assert json.loads(json_codec.write_outputs(outputs, as_rows=False)) == {"outputs": {"y": [], "text": []}}


def test_outputs_of_different_lengths_have_no_row_form():
    with pytest.raises(RequestError, match="inconsistent batch size: 1 expecting batch size: 2"):
        json_codec.write_outputs({"a": np.zeros([2]), "b": np.zeros([1])}, as_rows=True)
    with pytest.raises(RequestError, match="no shape information"):
        json_codec.write_outputs({"a": np.zeros([2]), "b": np.float32(1)}, as_rows=True)
