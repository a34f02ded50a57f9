"""Losses of the methods: pure functions of two batches of vectors, in float32."""

from __future__ import annotations

import tensorflow as tf


def negative_cosine(predictions: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Mean of -cos over the batch, [B, E] each -> float32 scalar; -1 is perfect agreement.

    Source: SimSiam (arXiv 2011.10566), equation 1.
    """
    return -tf.reduce_mean(tf.reduce_sum(_normalized(predictions) * _normalized(targets), axis=-1))


def nt_xent(projections_a: tf.Tensor, projections_b: tf.Tensor, *, temperature: float) -> tf.Tensor:
    """Cross-entropy of finding a view's partner among the other 2B - 1 views, [B, E] each -> float32 scalar.

    Its mean over all 2B views; ln(2B - 1) is chance.

    Source: SimCLR (arXiv 2002.05709), equation 1 and algorithm 1. The released code sums the two directions instead of
    averaging them, so its loss is twice this one.
    """
    views = _normalized(tf.concat([projections_a, projections_b], axis=0))
    logits = tf.matmul(views, views, transpose_b=True) / temperature
    # A view is no candidate for its own partner; exp of the lowest number is 0.
    logits = tf.linalg.set_diag(logits, tf.fill(tf.shape(views)[:1], tf.float32.min))
    batch = tf.range(tf.shape(projections_a)[0])
    partners = tf.concat([batch + tf.shape(batch)[0], batch], axis=0)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(partners, logits))


def vicreg(
    projections_a: tf.Tensor,
    projections_b: tf.Tensor,
    *,
    invariance_weight: float = 25.0,
    variance_weight: float = 25.0,
    covariance_weight: float = 1.0,
) -> tf.Tensor:
    """Weighted sum of the three terms, [B, E] each, B > 1 -> float32 scalar.

    Source: VICReg (arXiv 2105.04906), equation 6, as the released code (main_vicreg.py) has it: the invariance is a
    mean over dimensions, too, as in the paper's algorithm 1, and the variance is the mean of the two views, where the
    paper writes their sum.
    """
    variance = (variance_shortfall(projections_a) + variance_shortfall(projections_b)) / 2
    covariance = squared_covariance(projections_a) + squared_covariance(projections_b)
    invariance = squared_difference(projections_a, projections_b)
    return invariance_weight * invariance + variance_weight * variance + covariance_weight * covariance


def squared_difference(projections_a: tf.Tensor, projections_b: tf.Tensor) -> tf.Tensor:
    """VICReg's invariance: mean over images and dimensions, without any normalisation."""
    return tf.reduce_mean(tf.math.squared_difference(*_float32(projections_a, projections_b)))


def variance_shortfall(projections: tf.Tensor, *, target: float = 1.0, epsilon: float = 1e-4) -> tf.Tensor:
    """VICReg's variance (equation 1): how far the standard deviation of a dimension is below `target`, in the mean."""
    variances = _variances(_centred(projections))
    return tf.reduce_mean(tf.nn.relu(target - tf.sqrt(variances + epsilon)))


def squared_covariance(projections: tf.Tensor) -> tf.Tensor:
    """VICReg's covariance (equation 4): the squares of all covariances of two dimensions, summed and divided by E."""
    centred = _centred(projections)
    # The squares of X'X sum up to those of XX', which is [B, B]: 64 times less work than [E, E] for 128 images and the
    # published 8192 dimensions.
    products = tf.matmul(centred, centred, transpose_b=True) / _degrees_of_freedom(centred)
    of_all_pairs = tf.reduce_sum(tf.square(products))
    return (of_all_pairs - tf.reduce_sum(tf.square(_variances(centred)))) / tf.cast(tf.shape(centred)[1], tf.float32)


def gathered(projections: tf.Tensor) -> tf.Tensor:
    """The projections of all replicas, [B, E] each -> float32 [replicas B, E]; to be called in replica context.

    A loss that compares the images of a batch is then that of the global batch, the same on every replica. Gradients
    flow back to where the projections came from, so the mean over replicas has the gradient of that one loss.
    """
    # float32 here and not later: gradients that travel between replicas must not be rounded.
    projections, replica = tf.cast(projections, tf.float32), tf.distribute.get_replica_context()
    return projections if replica.num_replicas_in_sync == 1 else replica.all_gather(projections, axis=0)


def _normalized(vectors):
    # float32: under mixed_float16 the squared norm overflows and the loss goes silently flat.
    return tf.math.l2_normalize(tf.cast(vectors, tf.float32), axis=-1)


def _float32(*tensors):
    return [tf.cast(tensor, tf.float32) for tensor in tensors]


def _centred(projections):
    (projections,) = _float32(projections)
    return projections - tf.reduce_mean(projections, axis=0)


def _degrees_of_freedom(centred):
    return tf.cast(tf.shape(centred)[0] - 1, tf.float32)


def _variances(centred):
    """Unbiased, as in the released code."""
    return tf.reduce_sum(tf.square(centred), axis=0) / _degrees_of_freedom(centred)
