"""BiT weights from disk or TF Hub, under canonical names, and their strict assignment to a graph.

A canonical name is the released one without its accidents: `block1/unit01/a/conv/kernel`,
`block1/unit01/a/norm/gamma`, `head/kernel`. The released names are listed in google-research/big_transfer.
"""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from bitkeras.errors import UserError

HEAD = ("head/kernel", "head/bias")


def canonical_name(name: str) -> str:
    """`module/resnet/block1/unit01/a/standardized_conv2d_1/kernel:0` -> `block1/unit01/a/conv/kernel`."""
    name = re.sub(r":\d+$", "", name)
    name = re.sub(r"^(.*/)?resnet/", "", name)
    name = re.sub(r"standardized_conv2d(_\d+)?/", "conv/", name)
    name = re.sub(r"group_norm(_\d+)?/", "norm/", name)
    return re.sub(r"^head/conv2d(_\d+)?/", "head/", name)


def graph_variables(model: tf.keras.Model) -> dict[str, tf.Variable]:
    """The variables of a BiT graph under their canonical names."""
    variables = {}
    for layer in model.layers:
        for variable in layer.weights:
            weight = variable.name.split("/")[-1].split(":")[0]
            variables["/".join(_path_of_layer(layer.name)) + "/" + weight] = variable
    return variables


def _path_of_layer(name: str) -> list[str]:
    # `root_block` is the one part of a name that holds an underscore of its own.
    return name.replace("root_block_", "root_block/").replace("_", "/").replace("root/block", "root_block").split("/")


def read_weights(weights: str | Path) -> dict[str, np.ndarray]:
    """Canonical names -> float32 arrays, from a released `.npz`, a SavedModel folder or a TF Hub handle.

    Raises:
      UserError: nothing is there, or what is there cannot be read.
    """
    if str(weights).endswith(".npz"):
        named = _read_npz(Path(weights))
    else:
        named = _read_hub_module(str(weights))
    canonical: dict[str, np.ndarray] = {}
    for name, value in named.items():
        if canonical_name(name) in canonical:
            raise UserError(f"{weights} holds {canonical_name(name)} twice (again as {name}); one model, please.")
        canonical[canonical_name(name)] = value
    return canonical


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"The weights file {path} does not exist; pass a released BiT .npz file with --weights.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name], np.float32) for name in arrays.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"The weights file {path} is damaged or no .npz ({error}); download it again.") from error


def _read_hub_module(handle: str) -> dict[str, np.ndarray]:
    import tensorflow_hub as hub

    if "://" not in handle and not Path(handle, "saved_model.pb").is_file():
        raise UserError(
            f"--weights={handle} is no .npz file, no SavedModel folder and no URL of a TF Hub module; pass one "
            "of them, or none."
        )
    try:
        folder = hub.resolve(handle)
    except Exception as error:  # noqa: BLE001  tensorflow-hub lets through whatever the network library raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"The TF Hub module {handle} could not be fetched ({reason}); without a network pass the folder of a "
            "downloaded module or a released .npz file, or set TFHUB_CACHE_DIR to a cache that holds it."
        ) from error
    return _read_saved_variables(Path(folder))


def _read_saved_variables(folder: Path) -> dict[str, np.ndarray]:
    """Variable names -> arrays of a SavedModel, without building its graph."""
    try:
        reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
        objects = TrackableObjectGraph.FromString(reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
        attributes = [attribute for node in objects.nodes for attribute in node.attributes if attribute.full_name]
        return {a.full_name: np.asarray(reader.get_tensor(a.checkpoint_key), np.float32) for a in attributes}
    except (tf.errors.OpError, ValueError) as error:
        raise UserError(f"The variables in {folder} cannot be read ({error}); fetch the module again.") from error


def assign_weights(model: tf.keras.Model, weights: dict[str, np.ndarray], *, skip: tuple[str, ...] = ()) -> None:
    """Fills every variable of `model`; a bijection by name and shape, or an error that lists what is left over.

    A head in the form [1, 1, D, K] fits a dense one of [D, K].

    Args:
      model: a BiT graph.
      weights: canonical names -> arrays.
      skip: names that may stay unused, such as `HEAD` for a graph without one.

    Raises:
      UserError: with the names only in the graph, only in the checkpoint, and of another shape.
    """
    variables = graph_variables(model)
    arrays = {name: value for name, value in weights.items() if name not in skip}
    if arrays.get("head/kernel", np.empty(0)).ndim == 4:
        arrays["head/kernel"] = arrays["head/kernel"][0, 0]
    both = variables.keys() & arrays.keys()
    leftovers = {
        "only in the graph": sorted(variables.keys() - arrays.keys()),
        "only in the checkpoint": sorted(arrays.keys() - variables.keys()),
        "of another shape": sorted(
            f"{name} (graph {tuple(variables[name].shape)}, checkpoint {arrays[name].shape})"
            for name in both
            if tuple(variables[name].shape) != arrays[name].shape
        ),
    }
    if any(leftovers.values()):
        listed = "; ".join(f"{where}: {', '.join(names)}" for where, names in leftovers.items() if names)
        raise UserError(f"The weights do not fit {model.name}, and none was assigned. {listed}.")
    for name, variable in variables.items():
        variable.assign(arrays[name])
