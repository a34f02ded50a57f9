"""The signatures of a pushed SavedModel: one function each and a line in `SIGNATURES`.

Names and shapes are written out, since Keras' own (`input_1`, `output_0`) move with its layer counters.
Every input and output has a leading batch dimension, and no output is float16 or bfloat16: both are
conditions of TF Serving's REST interface and of its batching.
"""

from __future__ import annotations

import tensorflow as tf

from bitkeras.data.preprocess import preprocess
from export.servable import Servable

# Below ten, a batch of 16 photographs of 500x375 is decoded at half the speed.
PARALLEL_DECODES = 16


def serving_default(servable: Servable):
    """Encoded images, string [B] (JPEG, PNG or BMP of 24 bits) -> `Servable.classify`.

    Read as in training: turned as Exif says, transparency on white. One that is broken, larger than
    `decoding.MAX_PIXELS` or of another format fails the whole request with INVALID_ARGUMENT.
    """

    # `image_bytes`: Vertex AI wants the suffix for base64 input. No output carries it: TF Serving would answer base64.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")], autograph=False)
    def classify_encoded(image_bytes):
        return servable.classify(decode_batch(image_bytes, servable.image_size))

    return classify_encoded


def pixels(servable: Servable):
    """Prepared images, float32 [B, S, S, 3] in [-1, 1] -> `Servable.classify`.

    For callers that decode themselves, and for converters (ONNX, OpenVINO) that know no image decoder.
    """

    @tf.function(input_signature=[servable.pixels_spec], autograph=False)
    def classify_pixels(images):
        return servable.classify(images)

    return classify_pixels


SIGNATURES = {"serving_default": serving_default, "pixels": pixels}


def build_signatures(servable: Servable) -> dict:
    """{name: concrete function}, as `tf.saved_model.save` takes them."""
    return {name: build(servable).get_concrete_function() for name, build in SIGNATURES.items()}


def describe(signature) -> dict[str, dict]:
    """A concrete function's inputs and outputs as {"inputs": {name: {"dtype", "shape"}}, "outputs": ...}."""

    def specs(tensors):
        return {
            name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()} for name, spec in sorted(tensors.items())
        }

    inputs = {spec.name: spec for spec in signature.structured_input_signature[0]}
    inputs.update(signature.structured_input_signature[1])
    return {"inputs": specs(inputs), "outputs": specs(signature.structured_outputs)}


def decode_batch(image_bytes: tf.Tensor, image_size: int) -> tf.Tensor:
    """Encoded images, string [B] with B >= 0 -> float32 [B, S, S, 3] in [-1, 1]."""
    return tf.map_fn(
        lambda encoded: preprocess(encoded, image_size),
        image_bytes,
        parallel_iterations=PARALLEL_DECODES,
        fn_output_signature=tf.TensorSpec([image_size, image_size, 3], tf.float32),
    )
