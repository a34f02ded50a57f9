"""The projectors and predictors of the methods, each under the sentence of its paper.

All published ones have batch norm, which keeps the images of a batch apart even where the encoder has none. Whether it
is that, or batch norm in the encoder, that a method lives on can only be told with another norm in its place.
"""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf

from bitkeras.batch_norm import EPSILON, batch_norm
from bitkeras.errors import UserError

# What stands where the papers have batch norm; none: nothing, and a bias in the layer before.
HEAD_NORMS = ("batch", "layer", "none")


def simsiam_projector(
    num_features: int, *, num_projections: int, num_hidden: int, norm: str = "batch"
) -> tf.keras.Model:
    """Features [B, D] -> projections [B, E].

    "The projection MLP (in f) has BN applied to each fully-connected (fc) layer, including its output fc.
    Its output fc has no ReLU. The hidden fc is 2048-d. This MLP has 3 layers." (arXiv 2011.10566, section 3)
    """
    # Without scale and offset, as in the released code (simsiam/builder.py: affine=False).
    norms = {"norm": norm, "output_norm": {"center": False, "scale": False}}
    return _mlp(num_features, [num_hidden, num_hidden, num_projections], **norms, name="projector")


def simsiam_predictor(num_projections: int, *, num_hidden: int, norm: str = "batch") -> tf.keras.Model:
    """Projections [B, E] -> predictions [B, E].

    "The prediction MLP (h) has BN applied to its hidden fc layers. Its output fc does not have BN or ReLU.
    This MLP has 2 layers. The dimension of h's input and output (z and p) is d = 2048, and h's hidden
    layer's dimension is 512, making h a bottleneck structure." (section 3)
    """
    return _mlp(num_projections, [num_hidden, num_projections], norm=norm, output_bias=True, name="predictor")


def byol_mlp(num_inputs: int, *, num_outputs: int, num_hidden: int, norm: str = "batch", name: str) -> tf.keras.Model:
    """Features [B, D] -> projections [B, E], or projections -> predictions [B, E].

    "This MLP consists in a linear layer with output size 4096 followed by batch normalization, rectified linear units
    (ReLU), and a final linear layer with output dimension 256. Contrary to SimCLR, the output of this MLP is not batch
    normalized. The predictor q uses the same architecture as g." (arXiv 2006.07733, section 3.3) The last layer has no
    bias in the released code (byol/utils/networks.py).
    """
    return _mlp(num_inputs, [num_hidden, num_outputs], norm=norm, name=name)


def simclr_projector(
    num_features: int, *, num_projections: int, num_hidden: int, norm: str = "batch"
) -> tf.keras.Model:
    """Features [B, D] -> projections [B, E].

    "We use a MLP with one hidden layer to obtain z = g(h) = W2 ReLU(W1 h)" (arXiv 2002.05709, section 2.1), "a 2-layer
    MLP projection head to project the representation to a 128-dimensional latent space" (section 2.3). The released
    code (tf2/model.py) has BN behind both layers, the last without an offset.
    """
    return _mlp(num_features, [num_hidden, num_projections], norm=norm, output_norm={"center": False}, name="projector")


def vicreg_expander(num_features: int, *, num_projections: int, num_hidden: int, norm: str = "batch") -> tf.keras.Model:
    """Features [B, D] -> projections [B, E].

    "The expander is composed of two fully-connected layers with batch normalization (BN) and ReLU, and a third linear
    layer. The sizes of all 3 layers were set to 8192." (arXiv 2105.04906, section 4.2) The last layer has no bias in
    the released code (main_vicreg.py).
    """
    return _mlp(num_features, [num_hidden, num_hidden, num_projections], norm=norm, name="projector")


def _mlp(
    num_inputs: int,
    widths: Sequence[int],
    *,
    norm: str,
    output_norm: dict[str, bool] | None = None,
    output_bias: bool = False,
    name: str,
) -> tf.keras.Model:
    """Linear layers with a norm and ReLU behind all but the last, which has what is asked for."""
    if norm not in HEAD_NORMS:
        raise UserError(f"--head_norm is {norm}; pass one of {', '.join(HEAD_NORMS)}.")
    inputs = x = tf.keras.Input([num_inputs], name="inputs")
    # No bias before a norm: batch norm subtracts it again, and layer norm has an offset of its own.
    bias = norm == "none"
    for layer, width in enumerate(widths[:-1], start=1):
        x = tf.keras.layers.Dense(width, use_bias=bias, name=f"fc{layer}")(x)
        x = tf.keras.layers.ReLU(name=f"relu{layer}")(_normalized(x, norm, layer))
    output_bias = output_bias or (bias and output_norm is not None)
    x = tf.keras.layers.Dense(widths[-1], use_bias=output_bias, name=f"fc{len(widths)}")(x)
    if output_norm is not None:
        x = _normalized(x, norm, len(widths), **output_norm)
    return tf.keras.Model(inputs, x, name=name)


def _normalized(x, norm: str, layer: int, **options: bool):
    """`x` behind the norm of the `layer`-th linear layer."""
    if norm == "none":
        return x
    if norm == "batch":
        return batch_norm(f"bn{layer}", **options)(x)
    # The epsilon of PyTorch's layer norm, as of its batch norm.
    return tf.keras.layers.LayerNormalization(epsilon=EPSILON, name=f"ln{layer}", **options)(x)
