"""Requests and answers of REST in row and columnar form, as TensorFlow Serving has them."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from export.serving.errors import invalid
from export.serving.json_tensors import is_object, shown, to_array, to_plain

# 64 MB of "[],[]," are 21 million lists in 1.7 GB. Sixteen images of 224 px as numbers are 2.4 million values.
MAX_JSON_VALUES = 5_000_000


def parse(body: bytes) -> dict:
    """The JSON object of a predict request; RequestError where it is none."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    num_values = sum(body.count(mark) for mark in (b",", b"[", b"{"))
    if num_values > MAX_JSON_VALUES:
        raise invalid(f"JSON of {num_values} values; at most {MAX_JSON_VALUES} are taken, so send numbers by gRPC.")
    try:
        document = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except RecursionError as error:
        raise invalid("JSON Parse error: it is nested too deeply") from error
    except ValueError as error:  # no UTF-8, or a number of thousands of digits
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {shown(document)} Is not object")
    if not isinstance(document.get("signature_name", ""), str):
        raise invalid("JSON Value: not formatted correctly. 'signature_name' key must be a string value.")
    return document


def read_inputs(document: Mapping, signature) -> tuple[dict[str, np.ndarray], bool]:
    """({input: array}, whether it is in row form) of a parsed request."""
    if "instances" in document and "inputs" in document:
        raise invalid("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ")
    if "instances" in document:
        return _arrays(_columns(document["instances"], signature), signature), True
    if "inputs" in document:
        return _arrays(_named(document["inputs"], signature), signature), False
    raise invalid("Missing 'inputs' or 'instances' key")


def write_outputs(outputs: Mapping[str, np.ndarray], *, as_rows: bool) -> bytes:
    """The body of an answer. A single output stands without its name; NaN and infinity, which JSON lacks, are null."""
    values = {name: to_plain(name, array) for name, array in outputs.items()}
    only = next(iter(values.values())) if len(values) == 1 else None
    if not as_rows:
        return _dumped({"outputs": values if only is None else only})
    sizes = {name: len(array) if array.ndim else -1 for name, array in outputs.items()}
    for name, size in sizes.items():
        if size < 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if size != max(sizes.values()):
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {size} expecting batch size: {max(sizes.values())}"
            )
    if only is not None:
        return _dumped({"predictions": only})
    return _dumped({"predictions": [dict(zip(values, row)) for row in zip(*values.values())]})


def _columns(instances, signature) -> dict[str, list]:
    names = sorted(signature.inputs)
    if not isinstance(instances, list):
        raise invalid("JSON Value: Excepting 'instances' to be an list/array")
    if not instances:
        raise invalid("JSON Value: No values in 'instances' array")
    if not isinstance(instances[0], dict) and len(names) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    are_objects = is_object(instances[0])
    for index, item in enumerate(instances):
        if are_objects and not is_object(item):
            raise invalid(f"Expecting object but got list at item {index} of input list")
        if not are_objects and is_object(item):
            raise invalid(f"Expecting value/list but got object at item {index} of input list")
        if are_objects and set(item) != set(names):
            raise invalid(
                f"Failed to process element: {index} of 'instances' list. JSON object: keys must be equal to: "
                f"{','.join(names)}"
            )
    if are_objects:
        return {name: [item[name] for item in instances] for name in names}
    return {names[0]: instances}


def _named(inputs, signature) -> dict[str, object]:
    names = sorted(signature.inputs)
    if not is_object(inputs):
        if len(names) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple "
                "input tensors required as per tensorinfo_map"
            )
        return {names[0]: inputs}
    for name in names:
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: inputs[name] for name in names}


def _arrays(values: Mapping, signature) -> dict[str, np.ndarray]:
    return {name: to_array(value, signature.inputs[name].dtype) for name, value in values.items()}


def _dumped(value) -> bytes:
    return json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8", errors="replace")


def _refuse_constant(token: str):
    raise invalid(f"JSON Parse error: {token} is no JSON")
