import numpy as np
import tensorflow as tf

from bitkeras.methods.supervised import Supervised


def test_a_step_is_pytorch_sgd_on_the_mean_cross_entropy():
    """Gradient (softmax - onehot) x / B, plus weight decay inside momentum, written out in NumPy."""
    rng = np.random.default_rng(0)
    images, labels = rng.normal(size=[12, 1, 1, 3]).astype(np.float32), rng.integers(0, 4, 12).astype(np.int32)
    network = tf.keras.Sequential([tf.keras.layers.Flatten(input_shape=[1, 1, 3]), tf.keras.layers.Dense(4)])
    weights, biases = (value.copy() for value in network.get_weights())
    trainer = Supervised(network, weight_decay=0.1)
    trainer.compile(optimizer=tf.keras.optimizers.SGD(0.5, momentum=0.9))
    batches = tf.data.Dataset.from_tensor_slices({"images": images, "labels": labels}).batch(6)
    history = trainer.fit(batches, verbose=0).history
    losses, speeds = [], [0.0, 0.0]
    for batch in (slice(0, 6), slice(6, 12)):
        x, y = images[batch].reshape(6, 3), labels[batch]
        exponentials = np.exp(x @ weights + biases)
        probabilities = exponentials / exponentials.sum(1, keepdims=True)
        losses.append(-np.log(probabilities[np.arange(6), y]).mean())
        error = (probabilities - np.eye(4)[y]) / 6
        gradients = [x.T @ error + 0.1 * weights, error.sum(0) + 0.1 * biases]
        speeds = [0.9 * speed - 0.5 * gradient for speed, gradient in zip(speeds, gradients)]
        weights, biases = weights + speeds[0], biases + speeds[1]
    np.testing.assert_allclose(network.get_weights()[0], weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(network.get_weights()[1], biases, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(history["loss"], [np.mean(losses)], rtol=1e-5)
