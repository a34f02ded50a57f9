"""From BiT's Group Norm graph to a Batch Norm graph (Lu, Jha, Huo 2021, section 3), and BN statistics."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from bitkeras.backbones.checkpoints import HEAD, assign_weights, graph_variables

BATCH_NORM_START = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1.0}


def swap_group_norm(model: tf.keras.Model, weights: dict[str, np.ndarray], *, skip: tuple[str, ...] = HEAD) -> None:
    """Fills the BN graph `model` from GN weights by the paper's literal swap.

    The kernels are kept as they are, without the standardisation they were trained under; every BN layer
    starts at PyTorch's defaults, so GN's scale and offset are dropped.

    Raises:
      UserError: when the kernels and the graph's convolutions are no bijection.
    """
    batch_norms = {
        name: np.full(variable.shape, BATCH_NORM_START[name.split("/")[-1]], np.float32)
        for name, variable in graph_variables(model).items()
        if "norm/" in name
    }
    kernels = {name: value for name, value in weights.items() if "norm/" not in name}
    assign_weights(model, {**kernels, **batch_norms}, skip=skip)


def calibrate_batch_norm(model: tf.keras.Model, image_batches: Iterable[tf.Tensor]) -> None:
    """Sets the running statistics of every BN layer to their cumulative average over `image_batches`.

    Each batch is normalised by its own statistics on the way, so every layer sees what the layers
    before it will give it in the limit of large batches. Weights do not move.

    Args:
      model: a graph with BN layers, images float32 [B, H, W, 3] in [-1, 1] -> anything.
      image_batches: batches of equal size.
    """
    batch_norms = [layer for layer in model.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in batch_norms]
    try:
        for seen, images in enumerate(image_batches):
            for layer in batch_norms:
                # The running value times n/(n+1) plus the batch's share: the plain average after n+1 batches.
                layer.momentum = seen / (seen + 1)
            model(images, training=True)
    finally:
        for layer, momentum in zip(batch_norms, momenta):
            layer.momentum = momentum
