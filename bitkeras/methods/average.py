"""An exponential moving average of a network's weights."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from bitkeras.errors import UserError


class Average(tf.keras.layers.Layer):
    """The average of the weights of `network` over the steps of training: `average += (1 - decay) (weight - average)`.

    The running statistics of batch norm are averaged as weights are. They are those of the network and not of the
    average, and differ from them by what the network moves within the window of the average; taking them anew would
    need a pass over images before each look at the average, or what is monitored would not be what is kept. It would
    change no more than without an average: on phantoms, after 12 epochs, features with statistics of whole images had a
    mean cosine of 0.89 (decay 0.9) and 0.90 (0.99) to those kept, and of 0.90 in a run that keeps no average.

    Args:
      network: with the weights that training starts from, which the average equals at first.
      decay: share of the average that stays in a step, in [0, 1); its window is 1 / (1 - decay) steps.

    Raises:
      UserError: for another decay.
    """

    def __init__(self, network: tf.keras.Model, decay: float):
        require_decay(decay)
        super().__init__(name="average", dtype="float32")
        self.decay = decay
        # float32 under every policy, as the weights themselves; sums of small steps would be lost in half precision.
        self.averages = [tf.Variable(value, trainable=False) for value in network.get_weights()]
        self.steps = tf.Variable(0, dtype=tf.int64, trainable=False)

    def follow(self, network: tf.keras.Model, strategy: tf.distribute.Strategy) -> None:
        """Takes the weights of a step in; to be called in cross-replica context."""
        rate = 1.0 - decay_at(self.steps.read_value(), self.decay)

        def move(average, weight):
            average.assign_add(rate * (weight - average))

        for average, weight in zip(self.averages, network.weights):
            # A statistic is one of each replica, and what counts is their mean.
            value = weight if weight.trainable else weight.read_value()
            strategy.extended.update(average, move, args=(value,), group=False)
        self.steps.assign_add(1)

    def values(self) -> list[np.ndarray]:
        """The average, in the order of the network's `get_weights`."""
        return tf.keras.backend.batch_get_value(self.averages)


def require_decay(decay: float) -> None:
    """UserError where `decay` is none."""
    if not 0 <= decay < 1:
        raise UserError(
            f"--ema={decay:g} must be the share of the average that stays in a step, from 0 to below 1, such as "
            "--ema=0.99."
        )


def decay_at(step: tf.Tensor, decay: float) -> tf.Tensor:
    """The decay after `step`, counted from 0 -> float32 scalar, `min(decay, (1 + step) / (10 + step))`.

    So the average leaves random weights behind within its first steps, as `tf.train.ExponentialMovingAverage` does with
    `num_updates`; with 0.99 from the start, 37 % of them would be there after 100 steps.
    """
    step = tf.cast(step, tf.float32)
    return tf.minimum(decay, (1.0 + step) / (10.0 + step))
