"""Tensors of gRPC requests, and what a signature takes."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from export.serving.errors import invalid

# A tensor may say one value and a shape, and means that value everywhere: a few bytes that fill the memory.
MAX_TENSOR_BYTES = 256 << 20


def read_request(request, signature) -> dict[str, np.ndarray]:
    """{input: array} of a PredictRequest, checked against `signature`; RequestError where they do not fit."""
    sent, wanted = set(request.inputs), set(signature.inputs)
    if sent != wanted:
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(wanted)} len({_braced(sent)}) != "
            f"len({_braced(wanted)}). Sent extra: {_braced(sent - wanted)}. "
            f"Missing but required: {_braced(wanted - sent)}."
        )
    inputs = {name: _read_tensor(name, proto, signature.inputs[name]) for name, proto in request.inputs.items()}
    check_inputs(inputs, signature)
    return inputs


def check_inputs(inputs: Mapping[str, np.ndarray], signature) -> None:
    """RequestError where a shape is not the signature's."""
    for name, info in signature.inputs.items():
        shape = info.tensor_shape
        dims = [dim.size for dim in shape.dim]
        got = inputs[name].shape
        fits = len(dims) == len(got) and all(dim in (-1, size) for dim, size in zip(dims, got))
        if not shape.unknown_rank and not fits:
            wanted = ",".join("?" if dim < 0 else str(dim) for dim in dims)
            raise invalid(f"input {name} has the shape [{','.join(map(str, got))}], the signature takes [{wanted}]")


def num_rows(inputs: Mapping[str, np.ndarray]) -> int:
    """The longest first dimension."""
    return max((len(value) for value in inputs.values() if value.ndim), default=0)


def _read_tensor(name: str, proto, info) -> np.ndarray:
    if proto.dtype != info.dtype:
        wanted, got = tf.dtypes.as_dtype(info.dtype).name, _dtype_name(proto.dtype)
        raise invalid(f"Expects {name} to be {wanted} but {got} is provided.")
    dims = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(dim < 0 for dim in dims):
        raise invalid(f"Tensor {name} has no full shape: {dims}.")
    size = 8 if info.dtype == tf.string.as_datatype_enum else tf.dtypes.as_dtype(info.dtype).size
    if math.prod(dims) * size > MAX_TENSOR_BYTES:
        raise invalid(f"Tensor {name} of the shape {dims} is larger than {MAX_TENSOR_BYTES >> 20} MB; send fewer rows.")
    try:
        return tf.make_ndarray(proto)
    except (ValueError, TypeError) as error:
        raise invalid(f"Tensor {name} does not hold the values of its shape {dims}.") from error


def _dtype_name(number: int) -> str:
    try:
        return tf.dtypes.as_dtype(number).name
    except TypeError:
        return f"a type {number}"


def _braced(names: set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
