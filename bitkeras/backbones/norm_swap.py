"""From BiT's Group Norm graph to a Batch Norm graph (Lu, Jha, Huo 2021, section 3), and BN statistics."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Iterable

import numpy as np
import tensorflow as tf

from bitkeras.backbones.checkpoints import HEAD, assign_weights, graph_variables
from bitkeras.backbones.layers import StandardizedConv2D, standardize_kernel
from bitkeras.backbones.stages import layer_inputs

WS = ("raw", "fold", "keep")
BN_INITS = ("default", "copy", "match")


@dataclasses.dataclass(frozen=True)
class NormSwap:
    """How a GN network becomes a BN network.

    Attributes:
      ws: weight standardisation. "raw" drops it and keeps the kernels, as the paper's text reads; "fold" standardises
        the kernels once, so that each convolution computes what it did; "keep" leaves it in the graph.
      bn_init: "default" is PyTorch's scale 1 and offset 0; "copy" takes GN's; "match" takes those that give each
        channel the mean and variance that GN gives it on the images of `bn_calibrate`. GN's own scale cannot: it
        divides a whole group by one deviation, and how channels of a group differ in size is lost when each is
        divided by its own.
      bn_calibrate: unlabelled images that the running statistics are taken from; 0 leaves mean 0 and variance 1.
    """

    ws: str
    bn_init: str
    bn_calibrate: int


# 64, 256 and 1,024 images keep as much (docs/results/norm_swap.md); 256 leave a margin, for a quarter of the memory.
SWAPS = {"paper": NormSwap("raw", "default", 0), "preserve": NormSwap("fold", "match", 256)}

_START = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1.0}


def swap_group_norm(
    model: tf.keras.Model,
    weights: dict[str, np.ndarray],
    *,
    ws: str = "raw",
    bn_init: str = "default",
    skip: tuple[str, ...] = HEAD,
) -> None:
    """Fills the BN graph `model` from GN weights; the running statistics become mean 0 and variance 1.

    Args:
      model: with standardising convolutions for `ws="keep"`, with plain ones otherwise.
      weights: canonical names -> arrays of the GN network.
      ws, bn_init: as in `NormSwap`.
      skip: names in `weights` that may stay unused.

    Raises:
      UserError: when weights and graph are no bijection by name and shape.
      ValueError: for an unknown `ws` or `bn_init`, and for a graph whose convolutions are not those of `ws`.
    """
    if ws not in WS or bn_init not in BN_INITS:
        raise ValueError(f"ws is {ws!r}, of {', '.join(WS)}; bn_init is {bn_init!r}, of {', '.join(BN_INITS)}.")
    if any(isinstance(layer, StandardizedConv2D) for layer in model.layers) != (ws == "keep"):
        raise ValueError(f"ws={ws!r} does not go with the convolutions of {model.name}: only 'keep' standardises.")
    running = {
        name: np.full(variable.shape, _START[name.split("/")[-1]], np.float32)
        for name, variable in graph_variables(model).items()
        if name.split("/")[-1].startswith("moving_")
    }
    started = {name: _swapped(name, value, ws=ws, bn_init=bn_init) for name, value in weights.items()}
    assign_weights(model, {**started, **running}, skip=skip)


def _swapped(name: str, value: np.ndarray, *, ws: str, bn_init: str) -> np.ndarray:
    """What one GN weight is in the BN network."""
    if name.endswith("conv/kernel") and ws == "fold":
        return standardize_kernel(value).numpy()
    if "norm/" in name and bn_init == "default":
        return np.full(value.shape, _START[name.split("/")[-1]], np.float32)
    return value


def match_group_norm(model: tf.keras.Model, original: tf.keras.Model, image_batches: Iterable[tf.Tensor]) -> None:
    """Sets scale and offset of each BN layer so that its channels have the moments they have in the GN network.

    That holds once the running statistics are those of the same images (`calibrate_batch_norm`).

    Args:
      model: the BN graph, filled by `swap_group_norm`.
      original: the GN graph it comes from, with the same names of layers.
      image_batches: float32 [B, H, W, 3] each, of any size.
    """
    norms = {layer.name: layer for layer in batch_norms(model)}
    outputs = {name: original.get_layer(name).output for name in norms}
    watched = tf.keras.Model(original.input, outputs)
    seen = {name: _NOTHING for name in norms}
    for images in image_batches:
        for name, batch in watched(images, training=False).items():
            seen[name] = _joined(seen[name], batch)
    for name, (_, mean, variance) in seen.items():
        # A channel that GN turns upside down stays so.
        sign = np.where(original.get_layer(name).gamma.numpy() < 0, -1.0, 1.0)
        norms[name].gamma.assign(sign * np.sqrt(variance))
        norms[name].beta.assign(mean)


def batch_norms(model: tf.keras.Model) -> list[tf.keras.layers.BatchNormalization]:
    """The BN layers of a graph, in its order."""
    return [layer for layer in model.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]


def calibrate_batch_norm(model: tf.keras.Model, image_batches: Iterable[tf.Tensor]) -> None:
    """Sets the running statistics of every BN layer to the mean and variance of what it sees in inference mode.

    All images go through the first layer before any goes through the second, so that each BN layer is measured behind
    layers that are calibrated already. Weights do not move. The activations of all images at one layer and on the
    shortcut beside it are in memory: 8 MB an image for R50x1 at 224 px, 0.15 MB for R26x0.25 at 64 px.

    Args:
      model: a functional graph in float32, with BN layers or without: images, float32 [B, H, W, 3] -> anything.
      image_batches: of any size; each counts by its images.

    Raises:
      ValueError: when `image_batches` holds nothing.
    """
    # A pass in training mode, which normalises each batch by its own statistics, leaves means up to 0.13 standard
    # deviations off behind raw kernels (R26x0.25, 1,024 images of HAM10000, batches of 128; 0.035 behind folded
    # ones). Repeating passes in inference mode does not settle: errors grow from layer to layer, by up to 1e7, and
    # are gone only after as many passes as there are layers.
    if not batch_norms(model):
        return
    num_readers = collections.Counter(id(tensor) for layer in model.layers for tensor in layer_inputs(layer))
    activations = {id(model.input): [np.asarray(images) for images in image_batches]}
    if not activations[id(model.input)]:
        raise ValueError("There are no images to calibrate batch norm on.")
    for layer in model.layers[1:]:
        batches = [activations[id(tensor)] for tensor in layer_inputs(layer)]
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            mean, variance = _moments(batches[0])
            layer.moving_mean.assign(mean)
            layer.moving_variance.assign(variance)
        for tensor in layer_inputs(layer):
            num_readers[id(tensor)] -= 1
            if not num_readers[id(tensor)]:
                # Read for the last time: what remains in `batches` goes batch by batch.
                del activations[id(tensor)]
        kept = {id(batch_list) for batch_list in activations.values()}
        activations[id(layer.output)] = _apply(layer, batches, release=[id(given) not in kept for given in batches])


def _apply(layer: tf.keras.layers.Layer, batches: list[list[np.ndarray]], *, release: list[bool]) -> list[np.ndarray]:
    """The layer's output on each batch of each input; inputs marked in `release` are let go on the way."""
    outputs = []
    for index in range(len(batches[0])):
        values = [given[index] for given in batches]
        # NumPy, so that all of them lie in the computer's memory and not in that of a GPU.
        outputs.append(layer(values if len(values) > 1 else values[0], training=False).numpy())
        for given, last in zip(batches, release):
            if last:
                given[index] = None
    return outputs


# Images so far, and the mean and variance of what they gave.
_NOTHING = (0, 0.0, 0.0)


def _moments(batches: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance, float64 [C], over all images and positions of batches [B, H, W, C]."""
    _, mean, variance = functools.reduce(_joined, batches, _NOTHING)
    return mean, variance


def _joined(seen: tuple, batch: np.ndarray) -> tuple:
    """(images, mean, variance) with those of one more batch."""
    total, mean, variance = seen
    new_mean, new_variance = (moment.numpy().astype(np.float64) for moment in tf.nn.moments(batch, [0, 1, 2]))
    total += len(batch)
    share = len(batch) / total
    # Chan et al. 1979: what lies between the means of batches belongs to the variance over all images.
    between = share * (1 - share) * (new_mean - mean) ** 2
    return total, mean + share * (new_mean - mean), (1 - share) * variance + share * new_variance + between
