"""One tensor in JSON: nested lists to an array and back."""

from __future__ import annotations

import base64
import binascii
import json

import numpy as np
import tensorflow as tf

from export.serving.errors import RequestError, invalid


def to_array(value, datatype: int) -> np.ndarray:
    """Nested lists -> array of TensorFlow's `datatype`; RequestError where they are none."""
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
        raise invalid(f"JSON Value: {shown(value)} is not of expected type: {dtype.name}")
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
    if is_object(value) or not isinstance(value, dict):
        raise invalid(f"JSON Value: {shown(value)} is not of expected type: string")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def is_object(value) -> bool:
    """An object that is not one of base64."""
    return isinstance(value, dict) and not (list(value) == ["b64"] and isinstance(value["b64"], str))


def to_plain(name: str, array: np.ndarray):
    """Array -> what json.dumps takes; not finite is None, and strings of a name in `_bytes` are base64."""
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


def shown(value) -> str:
    """A value in an error, not longer than a line."""
    shown = json.dumps(value)
    return shown if len(shown) <= 64 else shown[:64] + "..."
