"""Requests that TensorFlow Serving replays before a version takes any, so that the first one is not slow.

Their picture is drawn here: whoever is given the model is not given a patient's photograph with it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

from export.check_servable import example

# TensorFlow Serving looks for this file, an uncompressed TFRecord of at most 1,000 PredictionLogs.
WARMUP = Path("assets.extra", "tf_serving_warmup_requests")
_BATCH_SIZES = (1, 8)
_PICTURE_SIZE = 256


def write_warmup(folder: Path, signatures: dict) -> bool:
    """Writes requests for every signature and two batch sizes.

    Args:
      folder: of the SavedModel.
      signatures: name -> concrete function.

    Returns:
      False where tensorflow-serving-api is not installed, and nothing was written.
    """
    try:
        from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
    except ImportError:
        return False
    (folder / WARMUP).parent.mkdir(exist_ok=True)
    picture = _picture()
    with tf.io.TFRecordWriter(str(folder / WARMUP)) as writer:
        for name, signature in signatures.items():
            (spec,) = signature.structured_input_signature[0]
            for size in _BATCH_SIZES:
                request = predict_pb2.PredictRequest()
                request.model_spec.signature_name = name
                request.inputs[spec.name].CopyFrom(tf.make_tensor_proto(_rows(spec, size, picture)))
                log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
                writer.write(log.SerializeToString())
    return True


def _rows(spec: tf.TensorSpec, size: int, picture: bytes):
    if spec.dtype != tf.string:
        return np.zeros([size, *spec.shape[1:]], spec.dtype.as_numpy_dtype)
    return [example(picture) if spec.name == "examples" else picture] * size


def _picture() -> bytes:
    """A JPEG that is darker towards its middle."""
    across = np.abs(np.linspace(-1, 1, _PICTURE_SIZE))
    shades = 110 + 60 * np.hypot(across, across[:, np.newaxis])
    return tf.io.encode_jpeg(np.repeat(shades[..., np.newaxis], 3, axis=-1).astype(np.uint8)).numpy()
