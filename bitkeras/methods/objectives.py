"""Losses of the methods: pure functions of two batches of vectors."""

from __future__ import annotations

import tensorflow as tf


def negative_cosine(predictions: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Mean of -cos over the batch, [B, E] each -> float32 scalar; -1 is perfect agreement.

    Source: SimSiam (arXiv 2011.10566), equation 1.
    """
    # float32: under mixed_float16 the squared norm overflows and the loss goes silently flat.
    predictions = tf.math.l2_normalize(tf.cast(predictions, tf.float32), axis=-1)
    targets = tf.math.l2_normalize(tf.cast(targets, tf.float32), axis=-1)
    return -tf.reduce_mean(tf.reduce_sum(predictions * targets, axis=-1))
