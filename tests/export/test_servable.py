"""The SavedModel as its users see it: signatures, dtypes, Session loading, tensorflow_hub."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from small_servable import CLASS_NAMES, IMAGE_SIZE, build_encoder, made_familiar, picture

from bitkeras.data.batches import image_batches
from bitkeras.data.folders import read_unlabelled_folder
from bitkeras.data.preprocess import preprocess
from bitkeras.evaluation.novelty import Familiar, novelty
from export.check_servable import example
from export.decoding import decode_rows
from export.servable import Servable
from export.signatures import SIGNATURES

KERNEL, BIAS = np.zeros([8, 3], np.float32), np.zeros(3, np.float32)
OUTPUTS = {
    "classes": (tf.string, [None, 3]),
    "probabilities": (tf.float32, [None, 3]),
    "prediction": (tf.string, [None]),
    "top_classes": (tf.string, [None, 3]),
    "top_probabilities": (tf.float32, [None, 3]),
    "embedding": (tf.float32, [None, 8]),
    "ood_score": (tf.float32, [None]),
}
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


def test_what_training_saw_is_what_serving_sees(loaded, servable, paths, images):
    """Turned, CMYK, progressive, transparent, 16 bits: from files by the pipeline of training, and from bytes."""
    source = read_unlabelled_folder(paths[0].parent)
    by_name = {path.name: place for place, path in enumerate(paths)}
    places = [by_name[Path(path).name] for path in source.paths]
    assert sorted(places) == list(range(len(images)))
    (seen,) = image_batches(source, np.arange(len(images)), image_size=IMAGE_SIZE, batch_size=len(images))
    pixels, is_readable = decode_rows(tf.constant([images[place] for place in places]), IMAGE_SIZE)
    assert is_readable.numpy().all()
    np.testing.assert_allclose(pixels, seen, atol=1e-5)
    served = loaded.signatures["embed"](image_bytes=tf.constant(images))["embedding"].numpy()[places]
    np.testing.assert_allclose(served, servable.encoder(seen, training=False), atol=1e-5)


def test_pixels_are_answered_as_bytes_are(loaded, images):
    pixels = tf.stack([preprocess(tf.constant(image), IMAGE_SIZE) for image in images])
    by_bytes = as_numpy(loaded.signatures["serving_default"](image_bytes=tf.constant(images)))
    by_pixels = as_numpy(loaded.signatures["pixels"](images=pixels))
    serialised = tf.constant([example(image) for image in images])
    by_example = as_numpy(loaded.signatures["examples"](examples=serialised))
    assert by_bytes.keys() == by_example.keys() == {*by_pixels, "status"} == {*OUTPUTS, "status"}
    for other in (by_pixels, by_example):
        for name in ("probabilities", "embedding", "ood_score", "top_probabilities"):
            np.testing.assert_allclose(by_bytes[name], other[name], atol=1e-5)
        for name in ("prediction", "top_classes"):
            assert (by_bytes[name] == other[name]).all()
    embedded = as_numpy(loaded.signatures["embed"](image_bytes=tf.constant(images)))
    assert embedded.keys() == {"embedding", "status"}
    np.testing.assert_allclose(embedded["embedding"], by_bytes["embedding"], atol=1e-5)


def test_the_top_classes_are_the_likeliest_first(loaded, images):
    answer = as_numpy(loaded.signatures["serving_default"](image_bytes=tf.constant(images)))
    order = np.argsort(-answer["probabilities"], axis=1)
    np.testing.assert_array_equal(answer["top_classes"], np.take_along_axis(answer["classes"], order, 1))
    np.testing.assert_allclose(answer["top_probabilities"], np.take_along_axis(answer["probabilities"], order, 1))


def test_the_ood_score_is_numpys_and_knows_what_is_strange(loaded, images):
    answer = as_numpy(loaded.signatures["serving_default"](image_bytes=tf.constant(images)))
    expected = novelty(made_familiar(), answer["embedding"])
    np.testing.assert_allclose(answer["ood_score"], expected, atol=1.5 / 200)
    references = made_familiar().references
    assert np.median(novelty(made_familiar(), 7 * references)) < 0.5
    assert (novelty(made_familiar(), -references) == 1).all()


def test_an_image_is_answered_alike_alone_and_among_others(loaded, images):
    serve = loaded.signatures["serving_default"]
    together = serve(image_bytes=tf.constant(images))["embedding"]
    for index, image in enumerate(images):
        alone = serve(image_bytes=tf.constant([image]))["embedding"]
        np.testing.assert_allclose(together[index : index + 1], alone, atol=1e-5)


def test_an_empty_batch_is_answered(loaded):
    for answer in (
        loaded.signatures["serving_default"](image_bytes=tf.constant([], tf.string)),
        loaded.signatures["examples"](examples=tf.constant([], tf.string)),
        loaded.signatures["pixels"](images=tf.zeros([0, IMAGE_SIZE, IMAGE_SIZE, 3])),
    ):
        shapes = {name: list(tensor.shape) for name, tensor in answer.items() if name != "status"}
        assert shapes == {name: [0, *shape[1:]] for name, (_, shape) in OUTPUTS.items()}


def test_signatures_fit_rest(loaded):
    assert set(loaded.signatures) == set(SIGNATURES) == {"serving_default", "examples", "embed", "pixels"}
    inputs = {
        "serving_default": ("image_bytes", tf.string, [None]),
        "examples": ("examples", tf.string, [None]),
        "embed": ("image_bytes", tf.string, [None]),
        "pixels": ("images", tf.float32, [None, 32, 32, 3]),
    }
    status = {"status": (tf.string, [None])}
    outputs = {
        **{"serving_default": {**OUTPUTS, **status}, "examples": {**OUTPUTS, **status}, "pixels": OUTPUTS},
        "embed": {"embedding": OUTPUTS["embedding"], **status},
    }
    for signature, (name, dtype, shape) in inputs.items():
        function = loaded.signatures[signature]
        ((got_name, spec),) = function.structured_input_signature[1].items()
        assert (got_name, spec.dtype, spec.shape.as_list()) == (name, dtype, shape)
        got = {key: (spec.dtype, spec.shape.as_list()) for key, spec in function.structured_outputs.items()}
        assert got == outputs[signature]


BROKEN = {
    "cut": lambda image: image[: len(image) // 2],
    "text": lambda image: b"no image",
    "empty": lambda image: b"",
    "a header alone": lambda image: image[:30],
    "a bomb": lambda image: png_header(50_000, 50_000),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_image_has_an_empty_row_and_costs_no_other(loaded, images, kind):
    broken = BROKEN[kind](images[0])
    serve = loaded.signatures["serving_default"]
    mixed = as_numpy(serve(image_bytes=tf.constant([broken, images[1], broken, images[PNG]])))
    assert mixed["status"].tolist() == [b"unreadable", b"ok"] * 2
    sound = as_numpy(serve(image_bytes=tf.constant([images[1], images[PNG]])))
    for name, values in mixed.items():
        if name != "status":
            assert not values[[0, 2]].astype(bool).any()
            equal = np.testing.assert_array_equal if values.dtype == object else np.testing.assert_allclose
            equal(values[[1, 3]], sound[name], **({} if values.dtype == object else {"atol": 1e-5}))
    alone = as_numpy(serve(image_bytes=tf.constant([broken])))
    assert alone["status"].tolist() == [b"unreadable"] and alone["prediction"].tolist() == [b""]


def png_header(width, height):
    """The beginning of a PNG that says it is very large."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0" * 64


@pytest.mark.parametrize("broken", [b"", b"\x0a\xff\xff", b"no example"])
def test_what_is_no_example_or_holds_no_image_has_an_empty_row(loaded, images, broken):
    answer = loaded.signatures["examples"](examples=tf.constant([broken, example(images[1])]))
    assert answer["status"].numpy().tolist() == [b"unreadable", b"ok"]


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


def test_a_hub_layer_that_is_trainable_fine_tunes_the_encoder(pushed, servable):
    import tensorflow_hub as hub

    rng = np.random.default_rng(0)
    labels = np.arange(12) % 2
    pixels = rng.uniform(-0.2, 0.2, [12, IMAGE_SIZE, IMAGE_SIZE, 3]).astype(np.float32)
    pixels += np.where(labels, 0.3, -0.3)[:, None, None, None]
    layer = hub.KerasLayer(str(pushed), trainable=True)
    model = tf.keras.Sequential([layer, tf.keras.layers.Dense(2)])
    model.compile(tf.keras.optimizers.SGD(0.05), tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.build([None, IMAGE_SIZE, IMAGE_SIZE, 3])
    assert len(layer.trainable_variables) == len(servable.encoder.trainable_variables) == 4
    before = [variable.numpy() for variable in layer.variables]
    history = model.fit(pixels, labels, epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]
    moved = [np.abs(variable.numpy() - old).max() > 0 for variable, old in zip(layer.variables, before)]
    trainable = {id(variable) for variable in layer.trainable_variables}
    # The kernel, bias, scale and offset learn; the statistics of batch norm stay.
    assert moved == [id(variable) in trainable for variable in layer.variables]


def test_saved_model_cli_shows_and_runs_it(pushed, images, tmp_path):
    show = run_cli("show", "--dir", str(pushed), "--tag_set", "serve", "--signature_def", "serving_default")
    assert "inputs['image_bytes']" in show and "outputs['probabilities']" in show
    np.save(tmp_path / "images.npy", np.array(images[:2]))
    signature = ["--tag_set", "serve", "--signature_def", "serving_default"]
    given = f"image_bytes={tmp_path / 'images.npy'}"
    run_cli("run", "--dir", str(pushed), *signature, "--inputs", given, "--outdir", str(tmp_path))
    assert np.load(tmp_path / "probabilities.npy").shape == (2, 3)


def run_cli(*arguments):
    """What `saved_model_cli` prints, run in this process: another would take ten seconds to begin."""
    from tensorflow.python.tools import saved_model_cli

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        parser = saved_model_cli.create_parser()
        parsed = parser.parse_args(list(arguments))
        parsed.func()
    return printed.getvalue()


def test_an_encoder_alone_is_served_without_classes(servable, images):
    alone = Servable(servable.encoder, familiar=made_familiar(), image_size=IMAGE_SIZE)
    answer = SIGNATURES["serving_default"](alone)(tf.constant(images[:2]))
    assert set(answer) == {"embedding", "ood_score", "status"}
    expected = SIGNATURES["serving_default"](servable)(tf.constant(images[:2]))
    for name in ("embedding", "ood_score"):
        np.testing.assert_allclose(answer[name], expected[name], atol=1e-6)


def test_the_model_itself_is_not_tracked(pushed, servable):
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel.FromString((pushed / "saved_model.pb").read_bytes())
    nodes = saved.meta_graphs[0].object_graph_def.nodes
    kinds = [node.WhichOneof("kind") for node in nodes]
    assert kinds.count("variable") == len(servable.encoder.variables) + 4
    assert not any("keras" in node.user_object.identifier for node in nodes)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_an_encoder_of_another_precision_is_refused(policy):
    with pytest.raises(ValueError, match=f"computes in {policy[6:]}; a served encoder must"):
        Servable(build_encoder(dtype=policy), familiar=made_familiar(), image_size=IMAGE_SIZE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_kernel": np.zeros([7, 3])}, r"D = 8 features and K = 3"),
        ({"head_bias": np.zeros([1, 3])}, r"a bias \[K\]"),
        ({"class_names": ("mel", "mel", "bcc")}, "each once"),
        ({"class_names": ("mel", "bcc")}, "K = 2"),
        ({"image_size": 64}, "image_size of 64"),
        ({"familiar": Familiar(np.zeros([5, 7], np.float32), np.zeros(3, np.float32))}, r"must be \[M, 8\]"),
    ],
)
def test_parts_that_do_not_fit_are_refused(servable, change, message):
    parts = {"head_kernel": KERNEL, "head_bias": BIAS, "class_names": CLASS_NAMES, "image_size": IMAGE_SIZE}
    parts = {**parts, "familiar": made_familiar(), **change}
    with pytest.raises(ValueError, match=message):
        Servable(servable.encoder, **parts)
