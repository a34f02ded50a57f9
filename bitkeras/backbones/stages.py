"""What a network knows at each depth: pooled outputs of its stages."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import tensorflow as tf


def stage_features(encoder: tf.keras.Model, image_batches: Iterable[tf.Tensor]) -> dict[str, np.ndarray]:
    """The encoder's stages in inference mode, each averaged over its positions; numbers may be infinite or NaN.

    Args:
      encoder: a BiT graph.
      image_batches: float32 [B, H, W, 3] in [-1, 1].

    Returns:
      root, block1 to block4 (before the norm of the next stage) and features -> float32 [N, C of that stage].
    """
    names = stage_layers(encoder)
    stages = tf.keras.Model(encoder.input, [encoder.get_layer(layer).output for layer in names.values()])

    @tf.function(reduce_retracing=True)
    def pooled(images):
        # float32 before the mean: in half precision it would lose digits.
        outputs = [tf.cast(x, tf.float32) for x in stages(images, training=False)]
        return [tf.reduce_mean(x, [1, 2]) if x.shape.rank == 4 else x for x in outputs]

    batches = [[stage.numpy() for stage in pooled(images)] for images in image_batches]
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*batches))}


def layer_inputs(layer: tf.keras.layers.Layer) -> list:
    """The tensors of the graph that a layer reads."""
    return layer.inbound_nodes[0].keras_inputs


def stage_layers(encoder: tf.keras.Model) -> dict[str, str]:
    """Stage -> name of the layer that gives its output."""
    names = [layer.name for layer in encoder.layers]
    stages = {"root": [name for name in names if name.startswith("root_block")][-1]}
    for block in ("block1", "block2", "block3", "block4"):
        stages[block] = [name for name in names if name.startswith(f"{block}_") and name.endswith("_add")][-1]
    return {**stages, "features": "features"}
