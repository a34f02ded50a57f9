"""PredictionService and ModelService: bytes in, messages out, around `Service`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent import futures

import tensorflow as tf

from bitkeras.errors import UserError
from export.serving import model_info
from export.serving.errors import RequestError, invalid
from export.serving.request import Request
from export.serving.service import Service
from export.serving.tensors import read_request
from export.serving.wire import message

# Where a client names no model, the server tells in this trailer which it has; TensorFlow Serving does not.
MODELS_TRAILER = "served-models"


def start(service: Service, address: str):
    """(grpc.Server that is running, its port).

    Raises:
      UserError: the address cannot be had.
    """
    import grpc

    calls = service.limits.max_connections
    server = grpc.server(
        futures.ThreadPoolExecutor(calls, thread_name_prefix="grpc"),
        handlers=handlers(service),
        # As many as threads, else a call that reports health would wait behind slow ones.
        maximum_concurrent_rpcs=calls,
        options=[
            ("grpc.max_receive_message_length", service.limits.max_request_bytes),
            ("grpc.max_send_message_length", -1),
            # Else a second server on the port takes half of the first one's clients.
            ("grpc.so_reuseport", 0),
            # A call whose message never comes holds a thread; this takes it back, and clients reconnect unnoticed.
            ("grpc.max_connection_age_ms", 600_000),
            ("grpc.max_connection_age_grace_ms", 60_000),
        ],
    )
    try:
        port = server.add_insecure_port(address)
    except RuntimeError:
        port = 0
    if not port:
        raise UserError(f"The address {address} cannot be listened on; pass another --grpc_port, or 0 for any.")
    server.start()
    return server, port


def handlers(service: Service) -> list:
    """For `grpc.server`. Methods that are not listed answer UNIMPLEMENTED.

    Messages arrive as bytes and are parsed here: grpc would log a page of traceback for each malformed one.
    """
    import grpc

    services = {
        "tensorflow.serving.PredictionService": {
            "Predict": ("PredictRequest", predict),
            "GetModelMetadata": ("GetModelMetadataRequest", metadata),
        },
        "tensorflow.serving.ModelService": {"GetModelStatus": ("GetModelStatusRequest", status)},
    }
    return [
        grpc.method_handlers_generic_handler(
            name,
            {
                method: grpc.unary_unary_rpc_method_handler(
                    _behaviour(service, method, request_name, respond),
                    response_serializer=lambda response: response.SerializeToString(),
                )
                for method, (request_name, respond) in methods.items()
            },
        )
        for name, methods in services.items()
    ]


def predict(service: Service, request: Request, sent, context):
    """PredictRequest -> PredictResponse."""

    def read(loaded):
        if not loaded.is_served(request.signature):
            raise RequestError("FAILED_PRECONDITION", f'Serving signature key "{request.signature[:64]}" not found.')
        return read_request(sent, loaded.signatures[request.signature])

    outputs = service.predict(
        request, read, outputs=sent.output_filter, seconds=context.time_remaining(), wanted=context.is_active
    )
    response = message("PredictResponse")()
    response.model_spec.name, response.model_spec.signature_name = request.model, request.signature
    response.model_spec.version.value = request.version
    for name, value in outputs.items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    return response


def metadata(service: Service, request: Request, sent, _context):
    """GetModelMetadataRequest -> GetModelMetadataResponse."""
    if list(sent.metadata_field) != ["signature_def"]:
        raise invalid(f"Metadata field {','.join(sent.metadata_field)[:64]} is not supported; it is signature_def")
    return model_info.metadata(service, request)


def status(service: Service, request: Request, _sent, context):
    """GetModelStatusRequest -> GetModelStatusResponse."""
    if not request.model:
        context.set_trailing_metadata(((MODELS_TRAILER, ",".join(sorted(service.models))),))
    return model_info.status(service, request)


def _behaviour(service: Service, method: str, request_name: str, respond: Callable):
    import grpc

    request_class = message(request_name)

    def behave(body: bytes, context):
        request = Request("GRPC", method)
        try:
            with service.held.holding(len(body)), service.told(request):
                sent = _parsed(request_class, body)
                spec = sent.model_spec
                request.model, request.signature = spec.name, spec.signature_name
                request.version = spec.version.value if spec.HasField("version") else None
                request.label = spec.version_label or None
                if not sent.HasField("model_spec"):
                    raise invalid("Missing ModelSpec")
                return respond(service, request, sent, context)
        except RequestError as error:
            failure = error
        # Outside of the handler above: abort raises, and its error would be told with the whole chain of causes.
        return context.abort(grpc.StatusCode[failure.code], str(failure))

    return behave


def _parsed(request_class, body: bytes):
    from google.protobuf.message import DecodeError

    try:
        return request_class.FromString(body)
    except DecodeError as error:
        raise invalid("The message is no " + request_class.DESCRIPTOR.name) from error
