"""A served encoder says what the given one says, and computes nothing at a request that it could have before."""

from __future__ import annotations

import collections
import re

import numpy as np
import pytest
import tensorflow as tf
from small_servable import build_encoder

from bitkeras.backbones import build_backbone
from bitkeras.backbones.layers import StandardizedConv2D
from bitkeras.errors import UserError
from bitkeras.evaluation.novelty import fit_familiar
from export import servable as servable_module
from export.folding import rebuild_for_serving
from export.push import write_model
from export.servable import Servable
from export.signatures import SIGNATURES
from export.validation import ValidationError, expected_answer, validate

SIZE, CLASSES = 32, ("mel", "nv")


def build_bit(**options) -> tf.keras.Model:
    """A small BiT whose norms are not the initial ones."""
    tf.keras.utils.set_random_seed(0)
    encoder = build_backbone("R14x0.25", **options)
    rng = np.random.default_rng(0)
    for layer in encoder.layers:
        if "norm" in layer.name:
            values = {"gamma": (0.5, 1.5), "beta": (-0.3, 0.3), "moving_mean": (-0.5, 0.5), "moving_variance": (0.5, 2)}
            for weight in layer.weights:
                name = weight.name.split("/")[-1].split(":")[0]
                weight.assign(rng.uniform(*values[name], weight.shape))
    return encoder


def build_bit_servable(encoder=None, **options) -> Servable:
    rng = np.random.default_rng(0)
    features = (rng.normal(0.3, 0.2, [count, 512]).astype(np.float32) for count in (20, 50))
    kernel, bias = rng.normal(0, 0.3, [512, 2]).astype(np.float32), np.array([0.1, -0.1], np.float32)
    parts = {"familiar": fit_familiar(*features), "class_names": CLASSES, "image_size": SIZE}
    return Servable(encoder or build_bit(norm="batch"), kernel, bias, **parts, **options)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, [4, SIZE, SIZE, 3]).astype(np.float32)


def distance(got, wanted) -> float:
    wanted = np.asarray(wanted)
    return float(np.abs(np.asarray(got) - wanted).max() / np.abs(wanted).max())


def ops_of(function) -> collections.Counter:
    graph = function.graph.as_graph_def()
    nodes = [*graph.node, *(node for body in graph.library.function for node in body.node_def)]
    return collections.Counter(node.op for node in nodes)


@pytest.mark.parametrize("options", [{"norm": "group"}, {"norm": "batch", "weight_standardization": True}])
def test_kernels_are_standardised_once(options, pixels):
    encoder = build_bit(**options)
    served = rebuild_for_serving(encoder)
    assert not any(isinstance(layer, StandardizedConv2D) for layer in served.layers)
    assert distance(served(pixels), encoder(pixels)) < 1e-5
    kernel = encoder.get_layer("root_block_conv").kernel.numpy().astype(np.float64)
    standard = (kernel - kernel.mean((0, 1, 2))) / kernel.std((0, 1, 2))
    np.testing.assert_allclose(served.get_layer("root_block_conv").kernel, standard, atol=1e-5)
    servable = build_bit_servable(encoder)
    function = servable.__call__.get_concrete_function(servable.pixels_spec)
    plain = rebuild_for_serving(build_bit(norm=options["norm"], weight_standardization=False))
    plain = build_bit_servable(plain).__call__.get_concrete_function(servable.pixels_spec)
    assert ops_of(function) == ops_of(plain)


def test_an_encoder_with_nothing_to_do_is_served_itself():
    encoder = build_bit(norm="batch")
    assert rebuild_for_serving(encoder) is encoder


def test_norms_behind_a_convolution_are_folded_and_no_other(pixels):
    encoder = build_bit(norm="batch")
    served = rebuild_for_serving(encoder, fold_norms=True)
    left = [layer.name for layer in served.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
    # The first unit's `a_norm` reads the pool, the others' and the last norm an addition.
    assert left == [f"block{stage}_unit01_a_norm" for stage in (1, 2, 3, 4)] + ["norm"]
    assert distance(served(pixels), encoder(pixels)) < 1e-5


def test_a_convolution_that_something_else_reads_keeps_its_norm_apart(pixels):
    images = tf.keras.Input([SIZE, SIZE, 3])
    read_twice = tf.keras.layers.Conv2D(4, 1)(images)
    normed = tf.keras.layers.BatchNormalization()(read_twice)
    bent = tf.keras.layers.BatchNormalization()(tf.keras.layers.Conv2D(4, 1, activation="relu")(normed))
    features = tf.keras.layers.GlobalAveragePooling2D()(tf.keras.layers.Add()([read_twice, bent]))
    encoder = tf.keras.Model(images, features)
    assert rebuild_for_serving(encoder, fold_norms=True) is encoder


def test_a_bias_and_a_norm_without_scale_or_offset_are_folded(pixels):
    images = tf.keras.Input([SIZE, SIZE, 3])
    conv = tf.keras.layers.Conv2D(4, 3, bias_initializer="ones")
    norm = tf.keras.layers.BatchNormalization(center=False, scale=False)
    encoder = tf.keras.Model(images, tf.keras.layers.GlobalAveragePooling2D()(norm(conv(images))))
    norm.moving_mean.assign([0.1, 0.2, 0.3, 0.4])
    norm.moving_variance.assign([0.5, 1, 2, 3])
    served = rebuild_for_serving(encoder, fold_norms=True)
    assert served.get_layer(norm.name).weights == []
    assert distance(served(pixels), encoder(pixels)) < 1e-5


def test_bfloat16_is_what_it_computes_in_and_float32_what_comes_out(pixels):
    encoder = build_bit(norm="batch")
    served = rebuild_for_serving(encoder, fold_norms=True, precision="bfloat16")
    answer = served(pixels)
    assert answer.dtype == tf.float32
    kinds = {layer.kernel.dtype for layer in served.layers if isinstance(layer, tf.keras.layers.Conv2D)}
    assert kinds == {tf.bfloat16} and served.get_layer("block4_unit01_add").compute_dtype == "bfloat16"
    # bfloat16 has 8 bits, so that equal numbers would mean that nothing was rounded.
    assert 1e-4 < distance(answer, encoder(pixels)) < 0.05


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_frozen_servable_has_constants_and_answers_alike(norm, pixels):
    encoder = build_bit(norm=norm)
    plain, frozen = build_bit_servable(encoder), build_bit_servable(encoder, freeze=True)
    assert list(frozen.variables) == [] and len(plain.variables) == len(encoder.variables)
    function = frozen.__call__.get_concrete_function(frozen.pixels_spec)
    assert not {"ReadVariableOp", "VarHandleOp"} & set(ops_of(function))
    answer, wanted = frozen.answer(pixels), plain.answer(pixels)
    for name in ("embedding", "probabilities"):
        assert distance(answer[name], wanted[name]) < 1e-5
    assert frozen.answer(pixels[:0])["embedding"].shape == [0, 512]


def test_a_session_joins_additions_norms_and_activations_to_the_convolutions(tmp_path, pixels):
    """What remains of its own: the norm and the activation behind an addition, and the two layers behind the root."""
    servable = build_bit_servable(freeze=True)
    signatures = {"pixels": SIGNATURES["pixels"](servable).get_concrete_function()}
    tf.saved_model.save(servable, str(tmp_path), signatures=signatures)
    metadata = tf.compat.v1.RunMetadata()
    # Its own configuration, since that of the tests optimises nothing.
    with tf.compat.v1.Session(graph=tf.Graph(), config=tf.compat.v1.ConfigProto()) as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(tmp_path)).signature_def["pixels"]
        options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
        fed = {signature.inputs["images"].name: pixels}
        # A function that is traced at its first run is not optimised as one that is served.
        session.run(signature.outputs["embedding"].name, fed)
        session.run(signature.outputs["embedding"].name, fed, options=options, run_metadata=metadata)
    labels = [node.timeline_label for device in metadata.step_stats.dev_stats for node in device.node_stats]
    ops = collections.Counter(found[1] for found in (re.search(r" = (\w+)\(", label) for label in labels) if found)
    if not any(op.startswith("_Mkl") for op in ops):
        pytest.skip("TensorFlow computes without oneDNN here")
    convolutions = sum(count for op, count in ops.items() if "Conv2D" in op)
    assert convolutions == sum(isinstance(layer, tf.keras.layers.Conv2D) for layer in servable.encoder.layers)
    assert not {"Relu", "BiasAdd", "AddV2", "_MklNativeFusedBatchNormV3", "ReadVariableOp"} & set(ops)


def test_an_encoder_that_no_file_could_hold_is_refused(monkeypatch):
    monkeypatch.setattr(servable_module, "MAX_FROZEN_BYTES", 1_000_000)
    with pytest.raises(UserError, match="GB of weights; constants must stay below 0.001 GB"):
        build_bit_servable(freeze=True)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_frozen_model_is_written_once_and_held_to_keras(precision, images, tmp_path):
    servable = build_bit_servable(freeze=True, precision=precision)
    expected = expected_answer(servable, images[:3])
    assert expected.tolerance == {"float32": 1e-5, "bfloat16": 0.1}[precision]
    write_model(servable, tmp_path / "1")
    answer = validate(tmp_path / "1", images=images[:3], expected=expected)
    assert not {"ReadVariableOp", "VarHandleOp"} & set(answer.report["ops"]["serving_default"])
    weights = sum(variable.numpy().nbytes for variable in servable.encoder.variables)
    # Four signatures and `__call__` share them.
    size = (tmp_path / "1" / "saved_model.pb").stat().st_size
    assert size < {"float32": 1.0, "bfloat16": 0.5}[precision] * weights + 700_000
    if precision == "float32":
        kernel = servable.encoder.get_layer("block4_unit01_c_conv").kernel
        kernel.assign(kernel * 1.01)
        with pytest.raises(ValidationError, match="differs from Keras"):
            validate(tmp_path / "1", images=images[:3], expected=expected_answer(servable, images[:3]))


def test_a_small_encoder_of_another_kind_is_frozen_too():
    encoder = build_encoder()
    served = rebuild_for_serving(encoder, fold_norms=True)
    images = np.random.default_rng(0).uniform(-1, 1, [3, SIZE, SIZE, 3]).astype(np.float32)
    assert distance(served(images), encoder(images)) < 1e-5
