"""Less memory for more time: activations computed again in the backward pass (Chen et al., arXiv 1604.06174)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import tensorflow as tf

from bitkeras.backbones.norm_swap import batch_norms
from bitkeras.backbones.stages import layer_inputs, stage_layers


def recomputing(encoder: tf.keras.Model) -> Callable[..., tf.Tensor]:
    """The encoder as a function that keeps, of all its activations, the inputs of its residual units.

    In training mode each unit is computed a second time when its gradient is due, which makes a step about a third
    more work. Values, gradients and running statistics are those of `encoder(views, training=training)`, to rounding.
    Layers and variables are the encoder's own, and it is saved as before. Memory is saved inside a `tf.function` only.

    Args:
      encoder: a BiT graph of any norm, stem and precision, with a head or without.

    Returns:
      (views, float32 [B, H, W, 3] in [-1, 1], *, training) -> what the encoder returns.
    """
    for norm in batch_norms(encoder):
        _let_hold(norm)
    segments = unit_segments(encoder)

    def forward(views: tf.Tensor, *, training: bool) -> tf.Tensor:
        if not training:
            return encoder(views, training=False)
        x = views
        for layers in segments:
            x = _recomputed(layers, x)
        return x

    return forward


def unit_segments(encoder: tf.keras.Model) -> list[list[tf.keras.layers.Layer]]:
    """The layers of a BiT graph in order: those of the root, of each residual unit, and what follows the last."""
    root = stage_layers(encoder)["root"]
    segments = [[]]
    for layer in encoder.layers[1:]:
        segments[-1].append(layer)
        if layer.name == root or isinstance(layer, tf.keras.layers.Add):
            segments.append([])
    return segments


def _recomputed(layers: list[tf.keras.layers.Layer], x: tf.Tensor) -> tf.Tensor:
    """The layers of one segment in training mode; between the passes only `x` is kept."""

    # Not tf.recompute_grad: it cannot tell the second pass, where statistics must rest, from the first, and it takes a
    # gradient with respect to the images.
    @tf.custom_gradient
    def segment(x):
        def gradient(upstream, variables=()):
            # Waiting for the upstream gradient is what saves the memory: else the second pass could start early, and
            # the graph optimiser would take it for a copy of the first and keep the first's activations instead.
            with tf.control_dependencies([upstream]), tf.GradientTape() as tape, _statistics_held():
                x_again = tf.identity(x)
                tape.watch(x_again)
                y_again = _run(layers, x_again)
            dx, *dvariables = tape.gradient(y_again, [x_again, *variables], output_gradients=upstream)
            return dx, dvariables

        return _run(layers, x), gradient

    return segment(x)


def _run(layers: list[tf.keras.layers.Layer], x: tf.Tensor) -> tf.Tensor:
    """The output of the last layer, in training mode, where the first one reads `x`."""
    # Not a tf.keras.Model of the segment: that adds a second call to the history of each layer of the encoder.
    values = {id(layer_inputs(layers[0])[0]): x}
    for layer in layers:
        given = [values[id(tensor)] for tensor in layer_inputs(layer)]
        values[id(layer.output)] = layer(given if len(given) > 1 else given[0], training=True)
    return values[id(layers[-1].output)]


class _Statistics(threading.local):
    """Whether running statistics rest; of each thread, since replicas are threads that take turns."""

    held = False


_STATISTICS = _Statistics()


@contextlib.contextmanager
def _statistics_held() -> Iterator[None]:
    _STATISTICS.held = True
    try:
        yield
    finally:
        _STATISTICS.held = False


def _let_hold(norm: tf.keras.layers.BatchNormalization) -> None:
    """Makes a BN layer leave its running statistics alone within `_statistics_held`."""
    # On the layer and not in a class of its own: an encoder with batch norm loads in Keras without bitkeras.
    add_update = norm.add_update

    def add_update_unless_held(updates):
        if not _STATISTICS.held:
            add_update(updates)

    norm.add_update = add_update_unless_held
