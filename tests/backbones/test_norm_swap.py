import numpy as np
import tensorflow as tf

from bitkeras.backbones import build_backbone
from bitkeras.backbones.checkpoints import graph_variables
from bitkeras.backbones.norm_swap import calibrate_batch_norm, swap_group_norm


def test_the_papers_swap_keeps_kernels_and_starts_batch_norm_at_its_defaults():
    released = build_backbone("R14x0.25", norm="group", num_classes=3)
    weights = {name: variable.numpy() + 1 for name, variable in graph_variables(released).items()}
    swapped = build_backbone("R14x0.25", norm="batch")
    for variable in swapped.variables:
        variable.assign(tf.random.normal(variable.shape))
    swap_group_norm(swapped, weights)
    for name, variable in graph_variables(swapped).items():
        if name.endswith("conv/kernel"):
            np.testing.assert_array_equal(variable, weights[name])
        else:
            default = {"gamma": 1, "beta": 0, "moving_mean": 0, "moving_variance": 1}[name.split("/")[-1]]
            assert set(variable.numpy()) == {default}, name


def test_calibration_is_the_plain_average_over_batches_and_moves_no_weight():
    rng = np.random.default_rng(0)
    images = tf.keras.Input([None, None, 2])
    first = tf.keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="first")
    second = tf.keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name="second")
    model = tf.keras.Model(images, second(tf.keras.layers.ReLU()(first(images))))
    batches = [rng.normal(3.0, 2.0, size=(4, 5, 5, 2)).astype(np.float32) for _ in range(7)]
    calibrate_batch_norm(model, batches)
    flat = [batch.reshape(-1, 2) for batch in batches]
    np.testing.assert_allclose(first.moving_mean, np.mean([x.mean(axis=0) for x in flat], axis=0), rtol=1e-5)
    # The fused kernel keeps the unbiased variance of a batch.
    np.testing.assert_allclose(first.moving_variance, np.mean([x.var(axis=0, ddof=1) for x in flat], axis=0), rtol=1e-5)
    # The second layer sees what the first gives under the batch's own statistics.
    relu = [np.maximum((x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + 1e-5), 0) for x in flat]
    np.testing.assert_allclose(second.moving_mean, np.mean([x.mean(axis=0) for x in relu], axis=0), rtol=1e-4)
    assert first.momentum == second.momentum == 0.9
    np.testing.assert_array_equal(first.gamma, [1, 1])
