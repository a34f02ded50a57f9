"""Starting: what is told before anything is served; warm-up; the watch."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time

import pytest
import tensorflow as tf
from foreign_model import write_foreign_model
from tensorflow_serving.apis import prediction_log_pb2

from bitkeras.errors import UserError
from export.serving.errors import RequestError
from export.serving.loaded_model import WARMUP_REQUESTS, LoadedModel
from export.serving.server import Server
from export.serving.wire import message


@pytest.fixture
def folder(foreign, tmp_path):
    """A copy that may be changed."""
    shutil.copytree(foreign, tmp_path / "foreign")
    return tmp_path / "foreign"


def write_warmup(folder, *requests):
    path = folder / "7" / WARMUP_REQUESTS
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.model_spec.signature_name = signature
            for name, value in inputs.items():
                log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())


def test_a_port_that_is_taken_is_told(foreign):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match="pass another --rest_port"):
            Server({"foreign": foreign}, rest_port=port)
        with pytest.raises(UserError, match="pass another --grpc_port"):
            Server({"foreign": foreign}, grpc_port=port)


def test_a_model_of_which_nothing_loads_is_told(tmp_path):
    (tmp_path / "m" / "1").mkdir(parents=True)
    with pytest.raises(UserError, match="No version of m in .* loads"):
        Server({"m": tmp_path / "m"})


def test_a_missing_package_is_told_by_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis.predict_pb2", None)
    with pytest.raises(UserError, match=r"tensorflow-serving-api, which is not installed; run .*\.\[serve\]"):
        message("PredictRequest")


def test_recorded_requests_are_replayed_and_one_that_fails_refuses_the_version(folder):
    write_warmup(folder, ("double", {"matrix": [[1.0, 2.0]]}), ("reduce", {"x": [1.0]}))
    ran = []

    class Counting(LoadedModel):
        def run(self, name, inputs, outputs=()):
            ran.append((name, {key: value.tolist() for key, value in inputs.items()}))
            return super().run(name, inputs, outputs)

    Counting(folder / "7", 7).close()
    assert ran == [("double", {"matrix": [[1, 2]]}), ("reduce", {"x": [1]})]
    shutil.rmtree(folder / "7" / "assets.extra")
    write_warmup(folder, ("double", {"matrix": [[1.0, 2.0, 3.0]]}))
    with pytest.raises(RequestError, match=r"the shape \[1,3\]"):
        LoadedModel(folder / "7", 7)


def test_without_records_every_signature_is_called_once(folder):
    ran = []

    class Counting(LoadedModel):
        def run(self, name, inputs, outputs=()):
            ran.append((name, {key: value.shape for key, value in inputs.items()}))
            return super().run(name, inputs, outputs)

    Counting(folder / "7", 7).close()
    assert sorted(ran) == [
        ("double", {"matrix": (1, 2)}),
        ("lengths", {"words": (0,)}),
        ("reduce", {"x": (1,)}),
        ("serving_default", {"n": (1,), "x": (1,)}),
    ]


def test_a_new_version_is_found_within_seconds(folder):
    server = Server({"foreign": folder})
    shutil.copytree(folder / "7", folder / ".tmp-8")
    os.rename(folder / ".tmp-8", folder / "8")
    deadline = time.monotonic() + 20
    while server.service.models["foreign"].available() != [8]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.stop()


def test_the_foreign_model_is_what_it_says(tmp_path):
    """Else the tests around it would prove nothing."""
    signatures = tf.saved_model.load(str(write_foreign_model(tmp_path / "1"))).signatures
    answer = signatures["serving_default"](x=tf.constant([3.0]), n=tf.constant([2], tf.int64))
    assert answer["quotient"].numpy().tolist() == [1.5]
