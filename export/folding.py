"""An encoder as it is served: what does not change between requests is computed once, before it is written."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from bitkeras.backbones.layers import StandardizedConv2D, standardize_kernel

PRECISIONS = ("float32", "bfloat16")
# TensorFlow (2.15, oneDNN) computes an addition together with the convolution before it only where that has a bias, and
# drops one of zeros. This one is lost in rounding.
_LOST_BIAS = 1e-30
_CONVOLUTIONS = (tf.keras.layers.Conv2D, StandardizedConv2D)


def rebuild_for_serving(
    encoder: tf.keras.Model, *, fold_norms: bool = False, precision: str = "float32"
) -> tf.keras.Model:
    """The encoder with kernels that are standardised for good, where it standardises any; itself if all is as asked.

    Args:
      encoder: functional Keras model that computes in float32.
      fold_norms: put batch norm into the convolution before it, where there is one. Of BiT's units these are `b_norm`
        and `c_norm`; `a_norm` follows an addition, whose sum the shortcut needs too. Convolutions before an addition
        get a bias that changes nothing, but lets TensorFlow compute the two as one.
      precision: of `PRECISIONS`; "bfloat16" computes in it and keeps kernels in it; features stay float32.

    Returns:
      A functional model with the same names of layers; a norm that was folded passes on what it gets.
    """
    norms = _foldable_norms(encoder) if fold_norms else {}
    added = {layer.name for layer in encoder.layers if _is_only_added(layer)} if fold_norms else set()
    is_standardized = any(isinstance(layer, StandardizedConv2D) for layer in encoder.layers)
    if not (norms or added or is_standardized or precision != "float32"):
        return encoder
    return _rebuilt(encoder, norms, added, precision=precision)


def _foldable_norms(encoder) -> dict[str, tf.keras.layers.BatchNormalization]:
    """{name of a convolution: the batch norm that alone reads it}."""
    found = {}
    for norm in encoder.layers:
        if isinstance(norm, tf.keras.layers.BatchNormalization) and len(norm.inbound_nodes) == 1:
            before = norm.inbound_nodes[0].inbound_layers
            if _is_foldable(before) and tuple(norm.axis) == (3,):
                found[before.name] = norm
    return found


def _is_only_added(layer) -> bool:
    return _is_foldable(layer) and isinstance(layer.outbound_nodes[0].outbound_layer, tf.keras.layers.Add)


def _is_foldable(layer) -> bool:
    return (
        type(layer) in _CONVOLUTIONS
        and len(layer.inbound_nodes) == len(layer.outbound_nodes) == 1
        and layer.activation is tf.keras.activations.linear
        and layer.data_format == "channels_last"
    )


def _rebuilt(encoder, norms: dict, added: set[str], *, precision: str) -> tf.keras.Model:
    gone = {norm.name for norm in norms.values()}

    def copy(layer):
        config = {**layer.get_config(), "dtype": _policy(layer, precision)}
        if layer.name in gone:
            return tf.keras.layers.Activation("linear", name=layer.name, dtype=config["dtype"])
        if type(layer) in _CONVOLUTIONS:
            config["use_bias"] = layer.use_bias or layer.name in norms or layer.name in added
            return tf.keras.layers.Conv2D.from_config(config)
        return type(layer).from_config(config)

    model = tf.keras.models.clone_model(encoder, clone_function=copy)
    for layer in encoder.layers:
        if layer.name not in gone:
            weights = _weights(layer, norms.get(layer.name))
            if layer.name in added and not layer.use_bias:
                weights.append(np.full(layer.filters, _LOST_BIAS))
            model.get_layer(layer.name).set_weights(weights)
    return model


def _policy(layer, precision: str) -> str:
    # What comes after the maps, the mean over positions first, stays float32, as it does in training.
    if precision == "float32" or len(layer.output_shape) != 4:
        return "float32"
    # Kernels are kept in bfloat16, half the bytes; norms keep their statistics in float32.
    return "bfloat16" if isinstance(layer, tf.keras.layers.Conv2D) else "mixed_bfloat16"


def _weights(layer, norm: tf.keras.layers.BatchNormalization | None) -> list[np.ndarray]:
    weights = layer.get_weights()
    if isinstance(layer, StandardizedConv2D):
        weights[0] = standardize_kernel(layer.kernel).numpy()
    if norm is None:
        return weights
    # float64: the quotient is rounded once.
    scale = 1 / np.sqrt(norm.moving_variance.numpy().astype(np.float64) + norm.epsilon)
    scale = scale * norm.gamma.numpy() if norm.scale else scale
    offset = norm.beta.numpy() if norm.center else 0.0
    bias = weights[1] if layer.use_bias else 0.0
    return [weights[0] * scale, (bias - norm.moving_mean.numpy()) * scale + offset]
