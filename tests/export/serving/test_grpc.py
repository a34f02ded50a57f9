"""Against the official stubs of tensorflow-serving-api, and bytes that are no message."""

from __future__ import annotations

import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from foreign_model import waiting_service
from tensorflow.core.framework.tensor_pb2 import TensorProto
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from export.serving import grpc_service

PREDICT = "/tensorflow.serving.PredictionService/Predict"


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def request_of(name="foreign", *, signature="", version=None, label=None, outputs=(), **inputs):
    request = predict_pb2.PredictRequest(output_filter=outputs)
    request.model_spec.name, request.model_spec.signature_name = name, signature
    if version is not None:
        request.model_spec.version.value = version
    if label:
        request.model_spec.version_label = label
    for key, value in inputs.items():
        request.inputs[key].CopyFrom(value if isinstance(value, TensorProto) else tf.make_tensor_proto(value))
    return request


def refused(call, request):
    with pytest.raises(grpc.RpcError) as error:
        call(request, timeout=20)
    return error.value.code().name, error.value.details()


def test_images_are_answered_as_the_saved_model_does(stub, loaded, images):
    wanted = loaded.signatures["serving_default"](image_bytes=tf.constant(images))
    response = stub.Predict(request_of("small", image_bytes=images), timeout=20)
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("small", 1, "serving_default")
    assert set(response.outputs) == set(wanted)
    for name, tensor in wanted.items():
        got = tf.make_ndarray(response.outputs[name])
        if tensor.dtype == tf.string:
            assert got.tolist() == tensor.numpy().tolist()
        else:
            np.testing.assert_allclose(got, tensor, atol=1e-5)


def test_outputs_can_be_chosen(stub, images):
    response = stub.Predict(request_of("small", outputs=["embedding"], image_bytes=images[:1]), timeout=20)
    assert set(response.outputs) == {"embedding"}


def test_types_other_than_ours_come_back_as_they_are(stub):
    response = stub.Predict(request_of(version=7, x=np.float32([1, 0]), n=np.int64([0, 0])), timeout=20)
    np.testing.assert_array_equal(tf.make_ndarray(response.outputs["quotient"]), [np.inf, np.nan])
    assert tf.make_ndarray(response.outputs["total"]).dtype == np.int64
    assert tf.make_ndarray(response.outputs["name"]).tolist() == [b"0", b"0"]


def broadcast(dtype, *shape):
    """One value that stands for all of a shape."""
    proto = tf.make_tensor_proto(np.zeros([1], dtype) if dtype is not object else [b""])
    proto.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return proto


def broken(shape):
    proto = tf.make_tensor_proto(np.zeros([4], np.float32))
    proto.tensor_shape.CopyFrom(tf.TensorShape(shape).as_proto())
    return proto


X, N = np.float32([1]), np.int64([1])


@pytest.mark.parametrize(
    ("request_", "code", "told"),
    [
        (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (request_of("none"), "NOT_FOUND", "Servable not found for request: Latest(none)"),
        (request_of("../small"), "NOT_FOUND", "Servable not found for request: Latest(../small)"),
        (request_of(version=0), "NOT_FOUND", "Servable not found for request: Specific(foreign, 0)"),
        (request_of(version=-5), "NOT_FOUND", "Specific(foreign, -5)"),
        (request_of(label="new"), "INVALID_ARGUMENT", "Unrecognized servable version label: new"),
        (request_of(signature="no"), "FAILED_PRECONDITION", 'Serving signature key "no" not found.'),
        (request_of(signature="__saved_model_init_op"), "FAILED_PRECONDITION", "not found."),
        (
            request_of(x=X, y=X),
            "INVALID_ARGUMENT",
            "input size does not match signature: 2!=2 len({x,y}) != len({n,x}). Sent extra: {y}. "
            "Missing but required: {n}.",
        ),
        (request_of(x=X, n=X), "INVALID_ARGUMENT", "Expects n to be int64 but float32 is provided."),
        (request_of(x=X, n=N[:, None]), "INVALID_ARGUMENT", "input n has the shape [1,1], the signature takes [?]"),
        (request_of(x=X, n=N, outputs=["z"]), "INVALID_ARGUMENT", "output tensor alias not found in signature: z"),
        (request_of(x=np.zeros([33], "f"), n=np.zeros([33], int)), "INVALID_ARGUMENT", "33 rows"),
        (request_of(x=broadcast(np.float32, 10**12), n=N), "INVALID_ARGUMENT", "is larger than 256 MB"),
        (request_of(x=broadcast(np.float32, 2**40, 2**40), n=N), "INVALID_ARGUMENT", "is larger than 256 MB"),
        (request_of("small", image_bytes=broadcast(object, 10**11)), "INVALID_ARGUMENT", "is larger than 256 MB"),
        (request_of(x=broken([3]), n=N), "INVALID_ARGUMENT", "does not hold the values of its shape [3]"),
        (request_of(x=broken([None]), n=N), "INVALID_ARGUMENT", "Tensor x has no full shape"),
        (request_of(x=TensorProto(dtype=77), n=N), "INVALID_ARGUMENT", "but a type 77 is"),
    ],
)
def test_what_cannot_be_answered_has_code_and_text(stub, request_, code, told):
    got, details = refused(stub.Predict, request_)
    assert got == code and told in details and len(details) < 400


@pytest.mark.parametrize("body", [b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\0", b"\x12" * 10_000])
def test_what_is_no_message_is_an_invalid_argument_and_no_page_in_the_log(channel, body, caplog):
    for service, method in (("PredictionService", "Predict"), ("ModelService", "GetModelStatus")):
        call = channel.unary_unary(f"/tensorflow.serving.{service}/{method}")
        assert refused(call, body)[0] == "INVALID_ARGUMENT"
    assert "Traceback" not in caplog.text


def test_methods_that_are_not_served_are_unimplemented(channel, stub):
    from tensorflow_serving.apis import classification_pb2

    assert refused(stub.Classify, classification_pb2.ClassificationRequest())[0] == "UNIMPLEMENTED"
    assert refused(channel.unary_unary("/tensorflow.serving.PredictionService/Steal"), b"")[0] == "UNIMPLEMENTED"


def test_a_message_beyond_the_limit_is_refused(stub):
    code, _ = refused(stub.Predict, request_of("small", image_bytes=[b"x" * (2 << 20)]))
    assert code == "RESOURCE_EXHAUSTED"


def test_status_and_metadata(channel, stub, loaded):
    models = model_service_pb2_grpc.ModelServiceStub(channel)

    def status_request(name, version=None):
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        if version:
            request.model_spec.version.value = version
        return request

    (row,) = models.GetModelStatus(status_request("foreign"), timeout=20).model_version_status
    assert row.version == 7 and row.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    assert row.status.error_code == 0
    assert refused(models.GetModelStatus, status_request("none")) == (
        "NOT_FOUND",
        "Could not find any versions of model none",
    )
    assert (
        refused(models.GetModelStatus, status_request("foreign", 8))[1] == "Could not find version 8 of model foreign"
    )

    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "small"
    response = stub.GetModelMetadata(request, timeout=20)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    assert response.model_spec.version.value == 1 and set(loaded.signatures) < set(signatures.signature_def)
    request.metadata_field[:] = ["weights"]
    assert refused(stub.GetModelMetadata, request) == (
        "INVALID_ARGUMENT",
        "Metadata field weights is not supported; it is signature_def",
    )


def test_past_what_it_takes_it_sheds_and_stays_healthy(tmp_path):
    service, model = waiting_service(tmp_path, max_in_flight=1, max_queued=2)
    server, port = grpc_service.start(service, "127.0.0.1:0")
    codes, request = [], request_of("waits", x=X)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

        def ask():
            try:
                stub.Predict(request, timeout=30)
                codes.append("OK")
            except grpc.RpcError as error:
                codes.append(error.code().name)

        threads = [threading.Thread(target=ask) for _ in range(10)]
        for thread in threads:
            thread.start()
        while len(codes) < 7:
            time.sleep(0.005)
        assert codes == ["RESOURCE_EXHAUSTED"] * 7
        status = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "waits"})
        assert model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status, timeout=10)
        # One whose time is over in the queue is not computed later.
        model.go.set()
        for thread in threads:
            thread.join(30)
    assert sorted(codes) == ["OK"] * 3 + ["RESOURCE_EXHAUSTED"] * 7 and model.most_running == 1
    server.stop(0).wait()


def test_who_gave_up_waiting_is_not_computed(tmp_path):
    service, model = waiting_service(tmp_path, max_in_flight=1, max_queued=2)
    server, port = grpc_service.start(service, "127.0.0.1:0")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        first = stub.Predict.future(request_of("waits", x=X), timeout=30)
        while not model.running:
            time.sleep(0.005)
        assert refused(lambda request, timeout: stub.Predict(request, timeout=0.2), request_of("waits", x=X))[0] == (
            "DEADLINE_EXCEEDED"
        )
        model.go.set()
        assert first.result().model_spec.version.value == 1
        while service.gate.in_flight or service.gate.queued:
            time.sleep(0.005)
    assert model.runs == 1
    server.stop(0).wait()
