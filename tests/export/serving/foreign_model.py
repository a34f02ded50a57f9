"""A SavedModel unlike ours: several inputs, other types, values that JSON lacks; and a model that waits."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from export.serving.limits import Limits
from export.serving.model_versions import ModelVersions
from export.serving.service import Service


def write_foreign_model(folder: Path) -> Path:
    """`serving_default`: x float32 [None], n int64 [None] -> quotient, total, name; `double` has one of each."""

    @tf.function(
        input_signature=[tf.TensorSpec([None], tf.float32, name="x"), tf.TensorSpec([None], tf.int64, name="n")],
        autograph=False,
    )
    def combine(x, n):
        as_float = tf.cast(n, tf.float32)
        return {
            "quotient": x / as_float,
            "total": n + 1,
            "name": tf.strings.as_string(n),
        }

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="matrix")], autograph=False)
    def double(matrix):
        return {"doubled": 2 * matrix}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")], autograph=False)
    def reduce(x):
        return {"sum": tf.reduce_sum(x), "x": x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")], autograph=False)
    def lengths(words):
        return {"lengths": tf.strings.length(words)}

    module = tf.Module()
    module.functions = [combine, double, reduce, lengths]
    signatures = {"serving_default": combine, "double": double, "reduce": reduce, "lengths": lengths}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


class WaitingModel:
    """A model whose answers wait until they are let go; counts how many are computed at once."""

    def __init__(self, version: int = 1):
        self.version, self.closed = version, False
        self.go, self._lock = threading.Event(), threading.Lock()
        self.running = self.most_running = self.runs = 0
        self.signatures = {"serving_default": signature_of(x=(tf.float32, [None]))}

    def is_served(self, name: str) -> bool:
        return name in self.signatures

    def run(self, name, inputs, outputs=()):
        with self._lock:
            self.runs += 1
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        assert self.go.wait(30) and not self.closed
        with self._lock:
            self.running -= 1
        return {"y": np.asarray(inputs["x"]) * self.version}

    def close(self):
        assert not self.running
        self.closed = True


def waiting_service(folder: Path, **limits) -> tuple[Service, WaitingModel]:
    """A service of one `WaitingModel`, called waits."""
    (folder / "1").mkdir(parents=True, exist_ok=True)
    model = WaitingModel()
    versions = ModelVersions("waits", folder, load=lambda *_: model)
    versions.poll()
    return Service({"waits": versions}, Limits(**limits)), model


def signature_of(**inputs) -> SignatureDef:
    """{name: (dtype, shape)} as it stands in a SavedModel."""
    signature = SignatureDef(method_name="tensorflow/serving/predict")
    for name, (dtype, shape) in inputs.items():
        signature.inputs[name].dtype = dtype.as_datatype_enum
        signature.inputs[name].tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return signature
