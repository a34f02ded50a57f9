"""The signatures of a pushed SavedModel: one function each and a line in `SIGNATURES`.

Names and shapes are written out, since Keras' own (`input_1`, `output_0`) move with its layer counters.
Every input and output has a leading batch dimension, and no output is float16 or bfloat16: both are
conditions of TF Serving's REST interface and of its batching.
"""

from __future__ import annotations

import tensorflow as tf

from export.decoding import blanked, decode_rows, encoded_in_example
from export.servable import Servable


def serving_default(servable: Servable):
    """Encoded images, string [B] (JPEG, PNG or BMP of 24 bits) -> `Servable.answer`, and `status` of each.

    Read as in training: turned as Exif says, transparency on white. One that is broken, larger than
    `decoding.MAX_PIXELS` or of another format has an empty row and the status "unreadable".
    """

    # `image_bytes`: Vertex AI wants the suffix for base64 input. No output carries it: TF Serving would answer base64.
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")], autograph=False)
    def answer_encoded(image_bytes):
        images, is_readable = decode_rows(image_bytes, servable.image_size)
        return blanked(servable.answer(images), is_readable)

    return answer_encoded


def examples(servable: Servable):
    """Serialised tf.Examples, string [B], with the image in `image/encoded` -> as `serving_default`.

    What TFX's components send, and what `bitkeras ingest` writes.
    """

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="examples")], autograph=False)
    def answer_examples(examples):
        images, is_readable = decode_rows(examples, servable.image_size, encoded_of=encoded_in_example)
        return blanked(servable.answer(images), is_readable)

    return answer_examples


def embed(servable: Servable):
    """Encoded images, string [B] -> `embedding` and `status` alone."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")], autograph=False)
    def embed_encoded(image_bytes):
        images, is_readable = decode_rows(image_bytes, servable.image_size)
        return blanked({"embedding": servable.embed(images)}, is_readable)

    return embed_encoded


def pixels(servable: Servable):
    """Prepared images, float32 [B, S, S, 3] in [-1, 1] -> `Servable.answer`.

    For callers that decode themselves, and for converters (ONNX, OpenVINO) that know no image decoder.
    """

    @tf.function(input_signature=[servable.pixels_spec], autograph=False)
    def answer_pixels(images):
        return servable.answer(images)

    return answer_pixels


SIGNATURES = {"serving_default": serving_default, "examples": examples, "embed": embed, "pixels": pixels}


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
