"""Convolutions as matrix products give what TensorFlow's convolutions give, forward and backward."""

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.backbones import build_backbone
from bitkeras.backbones.matmul_convs import use_matmuls

CHANNELS = 128


def network(*, kernel, stride, padding, shape):
    """A convolution of 24 kernels over as many channels as the products begin at."""
    images = tf.keras.Input([*shape, CHANNELS])
    tf.keras.utils.set_random_seed(0)
    layer = tf.keras.layers.Conv2D(24, kernel, stride, padding, use_bias=False)
    return tf.keras.Model(images, layer(images)), layer


def outcome(model, images, weights):
    """(outputs, gradient of the images, gradient of the kernel) of a loss that weighs every output."""

    @tf.function
    def compute(images):
        with tf.GradientTape() as tape:
            tape.watch(images)
            outputs = model(images, training=True)
            loss = tf.reduce_sum(outputs * tf.cast(weights, outputs.dtype))
        return outputs, *tape.gradient(loss, [images, model.trainable_variables[0]])

    return [np.asarray(tf.cast(part, tf.float32)) for part in compute(images)]


@pytest.mark.parametrize("shape", [(4, 4), (5, 7)])
@pytest.mark.parametrize(
    "kernel, stride, padding",
    [(1, 1, "valid"), (1, 2, "valid"), (3, 1, "same"), (3, 1, "valid"), (3, 2, "valid"), ((2, 3), 1, "same")],
)
def test_values_and_gradients_are_those_of_the_convolution(kernel, stride, padding, shape):
    model, layer = network(kernel=kernel, stride=stride, padding=padding, shape=shape)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.normal(size=[3, *shape, CHANNELS]), tf.float32)
    weights = tf.constant(rng.normal(size=model(images).shape), tf.float32)
    expected = outcome(model, images, weights)
    before = layer.convolution_op
    use_matmuls(model)
    assert layer.convolution_op != before
    for one, other in zip(outcome(model, images, weights), expected):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(other).max())


def test_layers_that_it_is_not_meant_for_stay_as_they_are():
    images = tf.keras.Input([8, 8, CHANNELS])
    layers = tf.keras.layers
    outputs = [
        layers.Conv2D(8, 3, 2, "same")(images),
        layers.Conv2D(8, 3, dilation_rate=2)(images),
        layers.Conv2D(8, 1, groups=4)(images),
        layers.Conv2D(8, 3)(layers.ReLU()(images)[..., : CHANNELS - 1]),
    ]
    model = tf.keras.Model(images, outputs)
    use_matmuls(model)
    assert not any("convolution_op" in vars(layer) for layer in model.layers)


@pytest.mark.parametrize("precision, tolerance", [("float32", 1e-4), ("mixed_bfloat16", 0.05)])
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_network_learns_the_same_and_is_saved_as_before(norm, precision, tolerance, tmp_path):
    tf.keras.mixed_precision.set_global_policy(precision)
    try:
        tf.keras.utils.set_random_seed(0)
        plain = build_backbone("R14x0.25", norm=norm)
        quick = build_backbone("R14x0.25", norm=norm)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    quick.set_weights(plain.get_weights())
    use_matmuls(quick)
    views = tf.constant(np.random.default_rng(0).uniform(-1, 1, [8, 48, 48, 3]), tf.float32)
    gradients = []
    for encoder in (plain, quick):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(tf.cast(encoder(views, training=True), tf.float32)))
        gradients.append(tf.concat([tf.reshape(g, [-1]) for g in tape.gradient(loss, encoder.trainable_weights)], 0))
    cosine = tf.reduce_sum(tf.nn.l2_normalize(gradients[0]) * tf.nn.l2_normalize(gradients[1]))
    assert cosine > 1 - tolerance
    quick.save(tmp_path / "encoder.keras")
    again = tf.keras.models.load_model(tmp_path / "encoder.keras")
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in plain.layers]
    for one, other in zip(again.get_weights(), quick.get_weights()):
        np.testing.assert_array_equal(one, other)
