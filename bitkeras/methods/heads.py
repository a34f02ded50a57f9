"""The projectors and predictors of the methods, each under the sentence of its paper."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from bitkeras.batch_norm import batch_norm


def simsiam_projector(num_features: int, *, num_projections: int, num_hidden: int) -> tf.keras.Model:
    """Features [B, D] -> projections [B, E].

    "The projection MLP (in f) has BN applied to each fully-connected (fc) layer, including its output fc.
    Its output fc has no ReLU. The hidden fc is 2048-d. This MLP has 3 layers." (arXiv 2011.10566, section 3)
    """
    # Without scale and offset, as in the released code (simsiam/builder.py: affine=False).
    output_norm = {"center": False, "scale": False}
    return _mlp(num_features, [num_hidden, num_hidden, num_projections], output_norm=output_norm, name="projector")


def simsiam_predictor(num_projections: int, *, num_hidden: int) -> tf.keras.Model:
    """Projections [B, E] -> predictions [B, E].

    "The prediction MLP (h) has BN applied to its hidden fc layers. Its output fc does not have BN or ReLU.
    This MLP has 2 layers. The dimension of h's input and output (z and p) is d = 2048, and h's hidden
    layer's dimension is 512, making h a bottleneck structure." (section 3)
    """
    return _mlp(num_projections, [num_hidden, num_projections], output_bias=True, name="predictor")


def byol_mlp(num_inputs: int, *, num_outputs: int, num_hidden: int, name: str) -> tf.keras.Model:
    """Features [B, D] -> projections [B, E], or projections -> predictions [B, E].

    "This MLP consists in a linear layer with output size 4096 followed by batch normalization, rectified linear units
    (ReLU), and a final linear layer with output dimension 256. Contrary to SimCLR, the output of this MLP is not batch
    normalized. The predictor q uses the same architecture as g." (arXiv 2006.07733, section 3.3) The last layer has no
    bias in the released code (byol/utils/networks.py).
    """
    return _mlp(num_inputs, [num_hidden, num_outputs], name=name)


def simclr_projector(num_features: int, *, num_projections: int, num_hidden: int) -> tf.keras.Model:
    """Features [B, D] -> projections [B, E].

    "We use a MLP with one hidden layer to obtain z = g(h) = W2 ReLU(W1 h)" (arXiv 2002.05709, section 2.1), "a 2-layer
    MLP projection head to project the representation to a 128-dimensional latent space" (section 2.3). The released
    code (tf2/model.py) has BN behind both layers, the last without an offset.
    """
    return _mlp(num_features, [num_hidden, num_projections], output_norm={"center": False}, name="projector")


def vicreg_expander(num_features: int, *, num_projections: int, num_hidden: int) -> tf.keras.Model:
    """Features [B, D] -> projections [B, E].

    "The expander is composed of two fully-connected layers with batch normalization (BN) and ReLU, and a third linear
    layer. The sizes of all 3 layers were set to 8192." (arXiv 2105.04906, section 4.2) The last layer has no bias in
    the released code (main_vicreg.py).
    """
    return _mlp(num_features, [num_hidden, num_hidden, num_projections], name="projector")


def _mlp(
    num_inputs: int,
    widths: Sequence[int],
    *,
    output_norm: dict[str, bool] | None = None,
    output_bias: bool = False,
    name: str,
) -> tf.keras.Model:
    """Linear layers with BN and ReLU behind all but the last, which has what is asked for."""
    inputs = x = tf.keras.Input([num_inputs], name="inputs")
    for layer, width in enumerate(widths[:-1], start=1):
        # No bias: the BN behind subtracts it again.
        x = tf.keras.layers.Dense(width, use_bias=False, name=f"fc{layer}")(x)
        x = tf.keras.layers.ReLU(name=f"relu{layer}")(batch_norm(f"bn{layer}")(x))
    x = tf.keras.layers.Dense(widths[-1], use_bias=output_bias, name=f"fc{len(widths)}")(x)
    if output_norm is not None:
        x = batch_norm(f"bn{len(widths)}", **output_norm)(x)
    return tf.keras.Model(inputs, x, name=name)
