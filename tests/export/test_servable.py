"""The SavedModel as its users see it: signatures, dtypes, Session loading, tensorflow_hub."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from small_servable import CLASS_NAMES, IMAGE_SIZE, build_encoder, picture

from bitkeras.data.preprocess import preprocess
from export.servable import Servable
from export.signatures import SIGNATURES

KERNEL, BIAS = np.zeros([8, 3], np.float32), np.zeros(3, np.float32)
PNG = 4  # its place in encode_pictures(): already 32x32, so its pixels are known without a decoder or a resize


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def as_numpy(answer):
    return {name: tensor.numpy() for name, tensor in answer.items()}


def test_bytes_are_answered_as_keras_and_numpy_do(loaded, servable, images):
    answer = as_numpy(loaded.signatures["serving_default"](image_bytes=tf.constant(images)))
    known_pixels = picture(IMAGE_SIZE, IMAGE_SIZE, seed=5)[np.newaxis] / np.float32(127.5) - 1
    embedding = servable.encoder.predict(known_pixels, verbose=0)
    probabilities = softmax(embedding @ servable.head_kernel.numpy() + servable.head_bias.numpy())
    np.testing.assert_allclose(answer["embedding"][PNG], embedding[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answer["probabilities"][PNG], probabilities[0], atol=1e-5)
    assert answer["prediction"][PNG].decode() == CLASS_NAMES[probabilities.argmax()]
    assert [[name.decode() for name in row] for row in answer["classes"]] == [list(CLASS_NAMES)] * len(images)
    # The pictures differ, so the answers must: a constant answer would pass many of the tests here.
    assert np.ptp(answer["probabilities"], axis=0).max() > 0.01


def test_pixels_are_answered_as_bytes_are(loaded, images):
    pixels = tf.stack([preprocess(tf.constant(image), IMAGE_SIZE) for image in images])
    by_bytes = as_numpy(loaded.signatures["serving_default"](image_bytes=tf.constant(images)))
    by_pixels = as_numpy(loaded.signatures["pixels"](images=pixels))
    assert by_bytes.keys() == by_pixels.keys() == {"classes", "probabilities", "prediction", "embedding"}
    for name in ("probabilities", "embedding"):
        np.testing.assert_allclose(by_bytes[name], by_pixels[name], atol=1e-5)
    assert (by_bytes["prediction"] == by_pixels["prediction"]).all()


def test_an_image_is_answered_alike_alone_and_among_others(loaded, images):
    serve = loaded.signatures["serving_default"]
    together = serve(image_bytes=tf.constant(images))["embedding"]
    for index, image in enumerate(images):
        alone = serve(image_bytes=tf.constant([image]))["embedding"]
        np.testing.assert_allclose(together[index : index + 1], alone, atol=1e-5)


def test_an_empty_batch_is_answered(loaded):
    for answer in (
        loaded.signatures["serving_default"](image_bytes=tf.constant([], tf.string)),
        loaded.signatures["pixels"](images=tf.zeros([0, IMAGE_SIZE, IMAGE_SIZE, 3])),
    ):
        shapes = {name: tuple(tensor.shape) for name, tensor in answer.items()}
        assert shapes == {"classes": (0, 3), "probabilities": (0, 3), "prediction": (0,), "embedding": (0, 8)}


def test_signatures_fit_rest(loaded):
    assert set(loaded.signatures) == set(SIGNATURES) == {"serving_default", "pixels"}
    inputs = {
        "serving_default": ("image_bytes", tf.string, [None]),
        "pixels": ("images", tf.float32, [None, 32, 32, 3]),
    }
    outputs = {
        "classes": (tf.string, [None, 3]),
        "probabilities": (tf.float32, [None, 3]),
        "prediction": (tf.string, [None]),
        "embedding": (tf.float32, [None, 8]),
    }
    for signature, (name, dtype, shape) in inputs.items():
        function = loaded.signatures[signature]
        ((got_name, spec),) = function.structured_input_signature[1].items()
        assert (got_name, spec.dtype, spec.shape.as_list()) == (name, dtype, shape)
        got = {key: (spec.dtype, spec.shape.as_list()) for key, spec in function.structured_outputs.items()}
        assert got == outputs


def test_a_truncated_or_foreign_image_is_an_invalid_argument(loaded, images):
    for broken in (images[0][: len(images[0]) // 2], b"no image", b""):
        with pytest.raises(tf.errors.InvalidArgumentError):
            loaded.signatures["serving_default"](image_bytes=tf.constant([images[1], broken]))


def test_a_session_loads_and_answers_as_tf_serving_would(pushed, loaded, images):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(pushed))
        signature = meta_graph.signature_def["serving_default"]
        assert signature.method_name == "tensorflow/serving/predict"
        fetches = {name: info.name for name, info in signature.outputs.items()}
        answer = session.run(fetches, {signature.inputs["image_bytes"].name: images})
    wanted = as_numpy(loaded.signatures["serving_default"](image_bytes=tf.constant(images)))
    np.testing.assert_allclose(answer["probabilities"], wanted["probabilities"], atol=1e-6)
    assert answer["prediction"].tolist() == wanted["prediction"].tolist()


def test_a_hub_layer_takes_the_folder_as_a_frozen_encoder(pushed, servable):
    import tensorflow_hub as hub

    pixels = np.random.default_rng(0).uniform(-1, 1, [3, IMAGE_SIZE, IMAGE_SIZE, 3]).astype(np.float32)
    head = tf.keras.layers.Dense(2)
    model = tf.keras.Sequential([hub.KerasLayer(str(pushed), trainable=False), head])
    model.compile("sgd", "mse")
    model.fit(pixels, np.zeros([3, 2]), verbose=0)
    assert [id(variable) for variable in model.trainable_variables] == [id(variable) for variable in head.variables]
    wanted = servable.encoder(pixels, training=False)
    np.testing.assert_allclose(model.layers[0](pixels), wanted, atol=1e-5)


def test_the_model_itself_is_not_tracked(pushed, servable):
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((pushed / "saved_model.pb").read_bytes())
    nodes = saved.meta_graphs[0].object_graph_def.nodes
    kinds = [node.WhichOneof("kind") for node in nodes]
    assert kinds.count("variable") == len(servable.encoder.variables) + 2
    assert not any("keras" in node.user_object.identifier for node in nodes)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_an_encoder_of_another_precision_is_refused(policy):
    with pytest.raises(ValueError, match=f"computes in {policy[6:]}; a served encoder must"):
        Servable(build_encoder(dtype=policy), KERNEL, BIAS, class_names=CLASS_NAMES, image_size=IMAGE_SIZE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_kernel": np.zeros([7, 3])}, r"D = 8 features and K = 3"),
        ({"head_bias": np.zeros([1, 3])}, r"a bias \[K\]"),
        ({"class_names": ("mel", "mel", "bcc")}, "each once"),
        ({"class_names": ("mel", "bcc")}, "K = 2"),
        ({"image_size": 64}, "image_size of 64"),
    ],
)
def test_parts_that_do_not_fit_are_refused(servable, change, message):
    parts = {"head_kernel": KERNEL, "head_bias": BIAS, "class_names": CLASS_NAMES, "image_size": IMAGE_SIZE, **change}
    with pytest.raises(ValueError, match=message):
        Servable(servable.encoder, **parts)
