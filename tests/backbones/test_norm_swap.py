import numpy as np
import pytest
import tensorflow as tf

from bitkeras.backbones import build_backbone
from bitkeras.backbones.checkpoints import graph_variables
from bitkeras.backbones.norm_swap import (
    SWAPS,
    batch_norms,
    calibrate_batch_norm,
    match_group_norm,
    swap_group_norm,
)
from bitkeras.backbones.stages import stage_features
from bitkeras.data import read_source
from bitkeras.data.batches import image_batches
from bitkeras.errors import UserError

DEFAULTS = {"gamma": 1, "beta": 0, "moving_mean": 0, "moving_variance": 1}


@pytest.fixture(scope="module")
def released():
    """A GN network with a head, none of whose weights is what it is initialised to."""
    model = build_backbone("R14x0.25", norm="group", num_classes=3)
    rng = np.random.default_rng(0)
    for name, variable in graph_variables(model).items():
        offset = 1.0 if name.endswith("gamma") else 0.3
        variable.assign(offset + 0.3 * rng.normal(size=variable.shape))
    return model


@pytest.fixture(scope="module")
def weights(released):
    return {name: variable.numpy() for name, variable in graph_variables(released).items()}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).uniform(-1, 1, [8, 64, 64, 3]).astype(np.float32)


def swapped(weights, *, ws, bn_init, name="R14x0.25"):
    model = build_backbone(name, norm="batch", weight_standardization=ws == "keep")
    for variable in model.variables:
        variable.assign(tf.random.normal(variable.shape))
    swap_group_norm(model, weights, ws=ws, bn_init=bn_init)
    return model


def standardized(kernel):
    kernel = kernel.astype(np.float64)
    return (kernel - kernel.mean((0, 1, 2))) / np.sqrt(kernel.var((0, 1, 2)) + 1e-10)


@pytest.mark.parametrize("ws", ["raw", "fold", "keep"])
@pytest.mark.parametrize("bn_init", ["default", "copy"])
def test_every_weight_is_what_the_flags_say(weights, ws, bn_init):
    for name, variable in graph_variables(swapped(weights, ws=ws, bn_init=bn_init)).items():
        kind = name.split("/")[-1]
        if kind == "kernel":
            expected = standardized(weights[name]) if ws == "fold" else weights[name]
        elif bn_init == "copy" and kind in ("gamma", "beta"):
            expected = weights[name]
        else:
            expected = np.full(variable.shape, DEFAULTS[kind])
        np.testing.assert_allclose(variable, expected, rtol=1e-5, atol=1e-6, err_msg=name)


def test_the_papers_swap_is_raw_kernels_and_default_norms():
    assert (SWAPS["paper"].ws, SWAPS["paper"].bn_init, SWAPS["paper"].bn_calibrate) == ("raw", "default", 0)


@pytest.mark.parametrize("ws", ["fold", "keep"])
def test_a_convolution_computes_what_it_did(released, weights, images, ws):
    model = swapped(weights, ws=ws, bn_init="copy")
    for layer in ("root_block_conv", "block2_unit01_b_conv", "block4_unit01_a_proj_conv"):
        channels = model.get_layer(layer).kernel.shape[2]
        inputs = np.random.default_rng(2).normal(size=[2, 9, 9, channels]).astype(np.float32)
        before, after = (network.get_layer(layer)(inputs) for network in (released, model))
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4)


def test_folding_and_keeping_are_one_function(weights, images):
    features = []
    for ws in ("fold", "keep"):
        model = swapped(weights, ws=ws, bn_init="copy")
        calibrate_batch_norm(model, [images])
        features.append(model(images, training=False))
    np.testing.assert_allclose(*features, rtol=1e-3, atol=1e-4)


def test_a_network_that_does_not_fit_is_refused(weights):
    missing = {name: value for name, value in weights.items() if name != "block1/unit01/b/norm/beta"}
    with pytest.raises(UserError, match="only in the graph: block1/unit01/b/norm/beta"):
        swapped(missing, ws="raw", bn_init="default")


@pytest.mark.parametrize(("ws", "standardization"), [("keep", False), ("fold", True), ("raw", True), ("drop", False)])
def test_graph_and_ws_must_go_together(weights, ws, standardization):
    model = build_backbone("R14x0.25", norm="batch", weight_standardization=standardization)
    with pytest.raises(ValueError, match=f"ws.*{ws}"):
        swap_group_norm(model, weights, ws=ws)


def distance_from_consistent(model, batches):
    """Worst channel: what each BN layer is given in inference mode, over all images, against its statistics."""
    layers = batch_norms(model)
    inputs = tf.keras.Model(model.input, [layer.input for layer in layers])
    given = [inputs(batch, training=False) for batch in batches]
    worst = 0.0
    for index, layer in enumerate(layers):
        x = np.concatenate([np.float64(outputs[index]).reshape(-1, outputs[index].shape[-1]) for outputs in given])
        scale = layer.moving_variance.numpy() + layer.epsilon
        worst = max(worst, np.abs((x.mean(0) - layer.moving_mean) / np.sqrt(scale)).max())
        worst = max(worst, np.abs((x.var(0) - layer.moving_variance) / scale).max())
    return worst


@pytest.mark.parametrize(("ws", "stem"), [("raw", "imagenet"), ("fold", "imagenet"), ("keep", "cifar")])
def test_calibrated_statistics_are_those_of_inference(weights, images, ws, stem):
    model = build_backbone("R26x0.25", norm="batch", stem=stem, weight_standardization=ws == "keep")
    before = [variable.numpy() for variable in model.trainable_variables]
    # A last batch that is smaller, and batches that are far from alike.
    batches = [images[:3], images[3:6] + 1, images[6:7] - 1]
    batches = [batch[:, ::2, ::2] for batch in batches]
    calibrate_batch_norm(model, batches)
    assert distance_from_consistent(model, batches) < 1e-4
    for old, new in zip(before, model.trainable_variables):
        np.testing.assert_array_equal(old, new)
    # Statistics have no memory, and an image counts the same in any batch.
    statistics = [variable.numpy() for variable in model.non_trainable_variables]
    calibrate_batch_norm(model, [np.concatenate(batches)])
    for old, new in zip(statistics, model.non_trainable_variables):
        np.testing.assert_allclose(old, new, rtol=1e-3, atol=1e-4)


@pytest.mark.real_data
def test_matched_norms_give_the_moments_of_group_norm(released, weights, images):
    """Recomputed from the outputs of whole networks; GN's mean of a channel differs from 0, and its size from 1."""
    model = swapped(weights, ws="fold", bn_init="default")
    batches = [images[:5], images[5:]]
    match_group_norm(model, released, batches)
    calibrate_batch_norm(model, batches)
    names = [layer.name for layer in batch_norms(model)]
    given, wanted = (
        tf.keras.Model(network.input, [network.get_layer(name).output for name in names])(images)
        for network in (model, released)
    )
    for name, ours, theirs in zip(names, given, wanted):
        ours, theirs = (np.asarray(values, np.float64).reshape(-1, values.shape[-1]) for values in (ours, theirs))
        np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=2e-4 * theirs.std(), err_msg=name)
        # Batch norm adds 1e-5 to a variance before it divides by it.
        np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=2e-2, err_msg=name)
        sign = np.sign(released.get_layer(name).gamma.numpy())
        np.testing.assert_array_equal(np.sign(model.get_layer(name).gamma.numpy()), sign)


def test_calibration_on_real_images(real_ham10000, weights):
    source = read_source("ham10000", real_ham10000)
    batches = list(image_batches(source, np.arange(0, 8000, 200), image_size=64, batch_size=16))
    model = swapped(weights, ws="raw", bn_init="default")
    assert distance_from_consistent(model, batches) > 1
    calibrate_batch_norm(model, batches)
    assert distance_from_consistent(model, batches) < 1e-4


def test_a_saved_encoder_can_be_calibrated(weights, images, tmp_path):
    swapped(weights, ws="keep", bn_init="copy").save(tmp_path / "encoder.keras")
    model = tf.keras.models.load_model(tmp_path / "encoder.keras")
    calibrate_batch_norm(model, [images])
    assert distance_from_consistent(model, [images]) < 1e-4


def test_a_network_without_batch_norm_is_left_alone(released, images):
    before = [variable.numpy() for variable in released.variables]
    calibrate_batch_norm(released, [images])
    for old, new in zip(before, released.variables):
        np.testing.assert_array_equal(old, new)


def test_no_images_are_told():
    with pytest.raises(ValueError, match="no images"):
        calibrate_batch_norm(build_backbone("R14x0.25", norm="batch"), [])


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_stages_are_pooled_outputs_at_six_depths(images, stem):
    model = build_backbone("R26x0.25", stem=stem)
    stages = stage_features(model, [images[:3], images[3:5]])
    widths = {"root": 16, "block1": 64, "block2": 128, "block3": 256, "block4": 512, "features": 512}
    assert {name: value.shape for name, value in stages.items()} == {name: (5, c) for name, c in widths.items()}
    np.testing.assert_allclose(stages["features"], model(images[:5]), rtol=1e-4, atol=1e-5)
    last = tf.keras.Model(model.input, model.get_layer("block2_unit02_add").output)(images[:5])
    np.testing.assert_allclose(stages["block2"], np.mean(last, axis=(1, 2)), rtol=1e-4, atol=1e-4)
    root = model.get_layer("root_block_pool" if stem == "imagenet" else "root_block_conv").output
    np.testing.assert_allclose(
        stages["root"], np.mean(tf.keras.Model(model.input, root)(images[:5]), axis=(1, 2)), rtol=1e-4, atol=1e-4
    )
