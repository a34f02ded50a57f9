"""The focal loss of the linear probe."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def focal_loss(
    labels: tf.Tensor, logits: tf.Tensor, *, gamma: float, class_weights: np.ndarray | None = None
) -> tf.Tensor:
    """Softmax focal loss, -a_y (1 - p_y)^gamma log p_y with p = softmax(logits) (Lin et al. 2017, section 3).

    Args:
      labels: int [..., B].
      logits: float32 [..., B, K].
      gamma: 0 is cross-entropy; larger values leave out examples that are already right.
      class_weights: [K], the paper's alpha; None is 1 for every class.

    Returns:
      float32 [..., B], one loss per example.
    """
    labels_one_hot = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    log_p = tf.reduce_sum(tf.nn.log_softmax(logits) * labels_one_hot, axis=-1)
    # exp(gamma log(1 - p)) of a floored 1 - p: tf.pow has a NaN gradient at p = 1 for gamma = 0.
    modulation = tf.exp(gamma * tf.math.log(tf.maximum(-tf.math.expm1(log_p), 1e-12)))
    alpha = 1.0 if class_weights is None else tf.gather(tf.cast(class_weights, logits.dtype), labels)
    return -alpha * modulation * log_p
