"""Requests and answers of REST: JSON to arrays and back, in row and columnar form, as TensorFlow Serving has them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from export.serving.errors import RequestError, invalid

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
        raise invalid(f"JSON Value: {_shown(document)} Is not object")
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
    values = {name: _plain(name, array) for name, array in outputs.items()}
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
    are_objects = _is_object(instances[0])
    for index, item in enumerate(instances):
        if are_objects and not _is_object(item):
            raise invalid(f"Expecting object but got list at item {index} of input list")
        if not are_objects and _is_object(item):
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
    if not _is_object(inputs):
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
    return {name: _array(value, signature.inputs[name].dtype) for name, value in values.items()}


def _array(value, datatype: int) -> np.ndarray:
    """Nested lists -> array of TensorFlow's `datatype`."""
    dtype = tf.dtypes.as_dtype(datatype)
    if dtype == tf.string:
        value = _as_bytes(value)
    try:
        array = np.array(value, object if dtype == tf.string else None)
    except ValueError as error:
        raise invalid("Encountered list at unexpected size: the lists of a tensor differ in length") from error
    if dtype == tf.string:
        if any(isinstance(item, list) for item in array.flat):
            raise invalid("Encountered list at unexpected size: the lists of a tensor differ in length")
        return array
    kinds = "b" if dtype == tf.bool else "iu" if dtype.is_integer else "iuf"
    if array.size and array.dtype.kind not in kinds:
        raise invalid(f"JSON Value: {_shown(value)} is not of expected type: {dtype.name}")
    return _cast(array, dtype)


def _cast(array: np.ndarray, dtype: tf.DType) -> np.ndarray:
    if dtype.is_integer and array.size and not (dtype.min <= array.min() and array.max() <= dtype.max):
        raise invalid(f"Cannot convert JSON value to {dtype.name} without loss of precision.")
    with np.errstate(over="ignore"):
        cast = array.astype(dtype.as_numpy_dtype)
    if dtype.is_floating and not np.isfinite(cast.astype(np.float64)).all():
        raise invalid(f"Cannot convert JSON value to {dtype.name} without loss of precision.")
    return cast


def _as_bytes(value):
    if isinstance(value, list):
        return [_as_bytes(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", errors="surrogatepass")
    if _is_object(value) or not isinstance(value, dict):
        raise invalid(f"JSON Value: {_shown(value)} is not of expected type: string")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def _is_object(value) -> bool:
    """An object that is not one of base64."""
    return isinstance(value, dict) and not (list(value) == ["b64"] and isinstance(value["b64"], str))


def _plain(name: str, array: np.ndarray):
    if array.dtype.kind == "O":
        return np.vectorize(lambda item: _text(name, item), otypes=[object])(array).tolist() if array.size else []
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        return np.where(np.isfinite(array), array.astype(object), None).tolist()
    if array.dtype.kind not in "fiub":
        raise RequestError("UNIMPLEMENTED", f"Failed to write JSON value for tensor type: {array.dtype}")
    return array.tolist()


def _text(name: str, item: bytes):
    if name.endswith("_bytes"):
        return {"b64": base64.b64encode(item).decode("ascii")}
    return item.decode("utf-8", errors="replace")


def _dumped(value) -> bytes:
    return json.dumps(value, allow_nan=False, ensure_ascii=False).encode("utf-8", errors="replace")


def _refuse_constant(token: str):
    raise invalid(f"JSON Parse error: {token} is no JSON")


def _shown(value) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 64 else shown[:64] + "..."
