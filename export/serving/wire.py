"""The messages of tensorflow-serving-api, which only the extra `serve` installs."""

from __future__ import annotations

import importlib

from bitkeras.errors import UserError

_MODULES = {
    "GetModelMetadataRequest": "get_model_metadata_pb2",
    "GetModelMetadataResponse": "get_model_metadata_pb2",
    "GetModelStatusRequest": "get_model_status_pb2",
    "GetModelStatusResponse": "get_model_status_pb2",
    "ModelServiceStub": "model_service_pb2_grpc",
    "ModelVersionStatus": "get_model_status_pb2",
    "PredictRequest": "predict_pb2",
    "PredictResponse": "predict_pb2",
    "PredictionLog": "prediction_log_pb2",
    "PredictionServiceStub": "prediction_service_pb2_grpc",
    "SignatureDefMap": "get_model_metadata_pb2",
}


def message(name: str):
    """The class of a message or a stub.

    Raises:
      UserError: tensorflow-serving-api is not installed.
    """
    try:
        module = importlib.import_module(f"tensorflow_serving.apis.{_MODULES[name]}")
    except ImportError as error:
        raise UserError(
            "Serving takes the package tensorflow-serving-api, which is not installed; "
            "run `pip install -c constraints.txt -e '.[serve]'`."
        ) from error
    return getattr(module, name)
