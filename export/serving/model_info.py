"""Status and metadata of a model, as messages and as the JSON that TensorFlow Serving makes of them."""

from __future__ import annotations

import json

from export.serving.errors import CODES
from export.serving.request import Request
from export.serving.service import Service
from export.serving.wire import message


def status(service: Service, request: Request):
    """GetModelStatusResponse."""
    response = message("GetModelStatusResponse")()
    states = service.find(request).states(request.version, request.label)
    for version, state in states.items():
        row = response.model_version_status.add(version=version)
        row.state = message("ModelVersionStatus").State.Value(state.state)
        row.status.error_code = CODES.index(state.code)
        row.status.error_message = state.message
    return response


def metadata(service: Service, request: Request):
    """GetModelMetadataResponse with the signatures."""
    with service.find(request).acquired(request.version, request.label) as loaded:
        request.version = loaded.version
        signatures = message("SignatureDefMap")()
        for name, signature in loaded.signatures.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = message("GetModelMetadataResponse")()
        response.model_spec.name = request.model
        response.model_spec.version.value = loaded.version
        response.metadata["signature_def"].Pack(signatures)
        return response


def status_json(service: Service, request: Request) -> bytes:
    """The body of REST's answer; versions are strings, as protobuf's JSON has int64."""
    return json.dumps(_as_dict(status(service, request)), indent=1).encode()


def metadata_json(service: Service, request: Request) -> bytes:
    """The body of REST's answer."""
    response = metadata(service, request)
    signatures = message("SignatureDefMap")()
    response.metadata["signature_def"].Unpack(signatures)
    spec = {"name": request.model, "signature_name": "", "version": str(request.version)}
    written = {"model_spec": spec, "metadata": {"signature_def": _as_dict(signatures)}}
    return json.dumps(written, indent=1).encode()


def _as_dict(proto) -> dict:
    from google.protobuf import json_format

    return json_format.MessageToDict(proto, including_default_value_fields=True, preserving_proto_field_name=True)
