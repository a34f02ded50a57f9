"""Batch norm as every network here has it."""

from __future__ import annotations

import tensorflow as tf

# PyTorch's defaults, which the seed paper's SimSiam runs with (Keras: 0.99 and 1e-3).
MOMENTUM = 0.9
EPSILON = 1e-5


def batch_norm(name: str, **options) -> tf.keras.layers.BatchNormalization:
    """The layer, over the whole batch: of all replicas where the current strategy has several.

    Over several replicas it is not the fused operation, whose running variance is the unbiased one; the two differ by
    the factor N / (N - 1) of N = B H W values.

    Args:
      name: of the layer.
      **options: of Keras's layer, such as `center` and `scale`.
    """
    # The synchronised layer is slower and does the same where there is one replica.
    synchronized = tf.distribute.get_strategy().num_replicas_in_sync > 1
    return tf.keras.layers.BatchNormalization(
        momentum=MOMENTUM, epsilon=EPSILON, synchronized=synchronized, name=name, **options
    )
