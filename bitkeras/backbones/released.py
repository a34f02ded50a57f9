"""A BiT network in the two forms in which the authors release theirs: `.npz`, and the SavedModel of TF Hub."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.backbones.checkpoints import graph_variables, is_saved_model
from bitkeras.errors import UserError
from bitkeras.files import written_atomically


def released_name(canonical: str) -> str:
    """`block1/unit01/a/conv/kernel` -> `resnet/block1/unit01/a/standardized_conv2d/kernel`."""
    *path, kind, weight = canonical.split("/")
    kind = {"conv": "standardized_conv2d", "norm": "group_norm", "head": "head/conv2d"}[kind]
    return "/".join(["resnet", *path, kind, weight])


def write_npz(weights: dict[str, np.ndarray], path: str | Path, dtype: type = np.float32) -> None:
    """Writes canonical names -> arrays under the released names; the head becomes a 1x1 kernel, as released.

    Args:
      weights: of a GN network, its head kernel (if there is one) [D, K].
      path: a file that ends in `.npz`; it appears complete or not at all.
      dtype: of the arrays in the file; float16 halves it, and loses digits.

    Raises:
      UserError: for the weights of a BN network, which this form has no names for.
      ValueError: a number is too large for `dtype`.
    """
    _require_group_norm(weights, path)
    with np.errstate(over="ignore"):
        arrays = {released_name(name): _as_released(name, value).astype(dtype) for name, value in weights.items()}
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise ValueError(f"{name} is not finite as {np.dtype(dtype).name}.")
    with written_atomically(path) as beside:
        np.savez(beside, **arrays)


def write_hub_module(model: tf.keras.Model, folder: str | Path, *, head: bool) -> None:
    """Writes a SavedModel in the form of those on TF Hub.

    Images, float32 [B, H, W, 3] in [0, 1] -> features [B, D] or logits [B, K], float32. It can be called and fine-tuned
    (`hub.KerasLayer(folder, trainable=True)`); its variables bear the released names.

    Args:
      model: a GN graph with images in [-1, 1].
      folder: a new folder, or one that holds such a module and is replaced.
      head: logits from the graph's head, which is then part of the module; False: features.

    Raises:
      UserError: for a BN graph, or a folder that holds something else.
      ValueError: a head is asked for, and the graph has none.
    """
    folder = Path(folder)
    variables = graph_variables(model)
    _require_group_norm(variables, folder)
    if head and "head/kernel" not in variables:
        raise ValueError(f"{model.name} has no head to write.")
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not is_saved_model(folder)):
        raise UserError(f"{folder} holds something that is no SavedModel; pass a new folder.")
    beside = folder.with_name(f".{folder.name}-{os.getpid()}")
    try:
        # Without the traced gradient of group norm a loaded module could be called and not be fine-tuned.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=True)
        tf.saved_model.save(_HubModule(model, head=head), str(beside), options=options)
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


class _HubModule(tf.Module):
    """A copy of the graph, with the attributes that TF Hub calls a reusable SavedModel."""

    # tf.Module makes properties of these two, and a SavedModel keeps attributes only.
    variables = trainable_variables = ()

    def __init__(self, model: tf.keras.Model, *, head: bool):
        super().__init__()
        network = _renamed(model)
        weights = {"head/kernel": None, "head/bias": None}
        if head:
            for name in weights:
                value = _as_released(name, graph_variables(model)[name].numpy())
                weights[name] = tf.Variable(value, name=released_name(name))
        kernel, bias = weights.values()
        self.variables = [*network.variables, *([kernel, bias] if head else [])]
        self.trainable_variables = list(self.variables)
        self.regularization_losses = []

        def compute(images):
            features = network(images * 2 - 1)
            return tf.matmul(features, kernel[0, 0]) + bias if head else features

        # A function, not the network itself: Keras would trace every layer of it into the SavedModel.
        self._compute = compute

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32, name="images")])
    def __call__(self, images):
        return self._compute(images)


def _renamed(model: tf.keras.Model) -> tf.keras.Model:
    """A float32 copy up to the features, whose layers and so variables bear the released names."""
    names = {
        variable.ref(): released_name(canonical).rpartition("/")[0]
        for canonical, variable in graph_variables(model).items()
    }

    def copy(layer):
        config = {**layer.get_config(), "dtype": "float32"}
        if layer.weights:
            config["name"] = names[layer.weights[0].ref()]
        return type(layer).from_config(config)

    features = tf.keras.Model(model.input, model.get_layer("features").output, name=model.name)
    renamed = tf.keras.models.clone_model(features, clone_function=copy)
    renamed.set_weights(features.get_weights())
    return renamed


def _as_released(canonical: str, value: np.ndarray) -> np.ndarray:
    return value[np.newaxis, np.newaxis] if canonical == "head/kernel" else value


def _require_group_norm(weights, path: str | Path) -> None:
    if any("moving_" in name for name in weights):
        raise UserError(
            f"{path} was not written: the released forms hold Group Norm networks, and this one has Batch Norm; "
            "keep it as encoder.keras."
        )
