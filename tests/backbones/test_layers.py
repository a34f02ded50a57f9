"""Group norm against its formula in float64, gradients included, and what mixed precision leaves of it."""

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.backbones.layers import group_norm

GROUPS, CHANNELS, EPSILON = 4, 24, 1e-5


@pytest.fixture(params=["float32", "mixed_bfloat16", "mixed_float16"])
def policy(request):
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(request.param)
    yield tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(before)


def in_float64(x, gamma, beta):
    grouped = tf.reshape(x, [*x.shape[:3], GROUPS, CHANNELS // GROUPS])
    mean, variance = tf.nn.moments(grouped, [1, 2, 4], keepdims=True)
    return tf.reshape((grouped - mean) / tf.sqrt(variance + EPSILON), x.shape) * gamma + beta


@pytest.mark.parametrize("jit_compile", [False, True])
def test_values_and_gradients_are_those_of_the_formula(policy, jit_compile):
    rng = np.random.default_rng(0)
    dtype = policy.compute_dtype
    images = tf.cast(rng.normal(5, 3, [3, 4, 5, CHANNELS]), dtype)
    upstream = tf.cast(rng.normal(size=images.shape), dtype)
    layer = group_norm("norm", groups=GROUPS)
    layer.build(images.shape)
    # Values that half precision would round away.
    layer.gamma.assign(1 + rng.integers(1, 9, CHANNELS) / 4096)
    layer.beta.assign(rng.normal(size=CHANNELS))

    @tf.function(jit_compile=jit_compile)
    def differentiate(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            normalized = layer(images)
        return normalized, tape.gradient(normalized, [images, layer.gamma, layer.beta], upstream)

    normalized, gradients = differentiate(images)
    wide = [tf.cast(value, tf.float64) for value in (images, layer.gamma.read_value(), layer.beta.read_value())]
    with tf.GradientTape() as tape:
        tape.watch(wide)
        expected = in_float64(*wide)
    expected_gradients = tape.gradient(expected, wide, tf.cast(upstream, tf.float64))
    assert normalized.dtype == dtype and [g.dtype for g in gradients] == [dtype, "float32", "float32"]
    # One rounding to the dtype of the images; none on the way to gamma and beta.
    rounding = {"float32": 2e-6, "bfloat16": 2**-8, "float16": 2**-10}[dtype]
    for found, wanted, tolerance in zip(
        [normalized, *gradients], [expected, *expected_gradients], [rounding, rounding, 2e-6, 2e-6]
    ):
        found = tf.cast(found, tf.float64).numpy()
        np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max())


def test_float16_sums_do_not_overflow():
    """300 squared is above 65,504 summed once, and scale times gradient of a loss scale would be, too."""
    layer = group_norm("norm", groups=2)
    images = tf.cast(np.random.default_rng(0).normal(300, 50, [2, 16, 16, 8]), tf.float16)
    normalized = tf.cast(layer(images), tf.float32).numpy()
    np.testing.assert_allclose([normalized.mean(), normalized.std()], [0, 1], atol=1e-2)
