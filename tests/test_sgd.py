"""The fused update is Keras's."""

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.sgd import SGD


@pytest.mark.parametrize("nesterov", [False, True])
def test_steps_are_those_of_momentum_by_hand(nesterov):
    """m = momentum * m - rate * g; w += m, or with Nesterov w += momentum * m - rate * g. Rates change every step."""
    rates = tf.keras.optimizers.schedules.PolynomialDecay(0.5, 5)
    optimizer = SGD(rates, momentum=0.9, nesterov=nesterov)
    rng = np.random.default_rng(0)
    weight = rng.normal(size=[4, 3])
    variable, momentum = tf.Variable(weight, dtype=tf.float32), np.zeros_like(weight)
    step = tf.function(lambda gradient: optimizer.apply_gradients([(gradient, variable)]))
    optimizer.build([variable])
    for number in range(5):
        gradient = rng.normal(size=weight.shape)
        rate = 0.5 + (0.0001 - 0.5) * number / 5
        momentum = 0.9 * momentum - rate * gradient
        weight = weight + (0.9 * momentum - rate * gradient if nesterov else momentum)
        step(tf.constant(gradient, tf.float32))
        np.testing.assert_allclose(variable, weight, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(optimizer.momentums[0], momentum, rtol=1e-5, atol=1e-6)


def test_without_momentum_and_with_its_config_it_is_keras_too():
    optimizer = SGD.from_config(SGD(0.5).get_config())
    variable = tf.Variable([1.0, 2.0])
    optimizer.apply_gradients([(tf.constant([2.0, 0.0]), variable)])
    np.testing.assert_array_equal(variable, [0.0, 2.0])


def test_a_checkpoint_of_keras_goes_on(tmp_path):
    """Runs of earlier versions hold Keras's optimizer."""
    ends = []
    for second in (tf.keras.optimizers.SGD, SGD):
        variable = tf.Variable([1.0, -2.0])
        first = tf.keras.optimizers.SGD(0.25, momentum=0.5)
        first.build([variable])
        first.apply_gradients([(tf.constant([1.0, 1.0]), variable)])
        path = tf.train.Checkpoint(optimizer=first, variable=variable).write(str(tmp_path / second.__module__))
        other = tf.Variable([0.0, 0.0])
        optimizer = second(0.25, momentum=0.5)
        optimizer.build([other])
        tf.train.Checkpoint(optimizer=optimizer, variable=other).read(path).assert_existing_objects_matched()
        optimizer.apply_gradients([(tf.constant([1.0, 0.0]), other)])
        ends.append(other.numpy())
    np.testing.assert_array_equal(*ends)
    np.testing.assert_array_equal(ends[0], [1 - 0.25 - 0.375, -2 - 0.25 - 0.125])
