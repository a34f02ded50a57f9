"""SimSiam's projector and predictor, each under the paper's sentence (arXiv 2011.10566, section 3)."""

from __future__ import annotations

import tensorflow as tf

# PyTorch's defaults, as in the backbone after the swap.
BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5}


def build_projector(num_features: int, *, num_projections: int = 2048, num_hidden: int = 2048) -> tf.keras.Model:
    """Features [B, D] -> projections [B, E].

    "The projection MLP (in f) has BN applied to each fully-connected (fc) layer, including its output fc.
    Its output fc has no ReLU. The hidden fc is 2048-d. This MLP has 3 layers."
    """
    features = tf.keras.Input([num_features], name="features")
    x = features
    for layer in (1, 2):
        # No bias: the BN behind subtracts it again.
        x = tf.keras.layers.Dense(num_hidden, use_bias=False, name=f"fc{layer}")(x)
        x = tf.keras.layers.BatchNormalization(**BATCH_NORM, name=f"bn{layer}")(x)
        x = tf.keras.layers.ReLU(name=f"relu{layer}")(x)
    x = tf.keras.layers.Dense(num_projections, use_bias=False, name="fc3")(x)
    # Without scale and offset, as in the released code (simsiam/builder.py: affine=False).
    x = tf.keras.layers.BatchNormalization(**BATCH_NORM, center=False, scale=False, name="bn3")(x)
    return tf.keras.Model(features, x, name="projector")


def build_predictor(num_projections: int = 2048, *, num_hidden: int = 512) -> tf.keras.Model:
    """Projections [B, E] -> predictions [B, E].

    "The prediction MLP (h) has BN applied to its hidden fc layers. Its output fc does not have BN or ReLU.
    This MLP has 2 layers. The dimension of h's input and output (z and p) is d = 2048, and h's hidden
    layer's dimension is 512, making h a bottleneck structure."
    """
    projections = tf.keras.Input([num_projections], name="projections")
    x = tf.keras.layers.Dense(num_hidden, use_bias=False, name="fc1")(projections)
    x = tf.keras.layers.BatchNormalization(**BATCH_NORM, name="bn1")(x)
    x = tf.keras.layers.ReLU(name="relu1")(x)
    x = tf.keras.layers.Dense(num_projections, name="fc2")(x)
    return tf.keras.Model(projections, x, name="predictor")
