"""BiT weights from disk or TF Hub, under canonical names, and their strict assignment to a graph.

A canonical name is the released one without its accidents: `block1/unit01/a/conv/kernel`,
`block1/unit01/a/norm/gamma`, `head/kernel`. The released names are listed in google-research/big_transfer.
"""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
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

    A head in the form [1, 1, D, K] is handed over as [D, K]. Arrays with names that are not BiT's keep them,
    so that `assign_weights` can list them.

    Raises:
      UserError: nothing is there, it cannot be read, or it holds no BiT network.
    """
    if str(weights).endswith(".npz"):
        return canonical_weights(_read_npz(Path(weights)), weights)
    return read_module(resolve_module(str(weights)), weights)


def read_module(folder: Path, origin: str | Path) -> dict[str, np.ndarray]:
    """`read_weights` of the SavedModel in `folder`, without building its graph; `origin` is what errors call it."""
    return canonical_weights(_read_saved_variables(folder), origin)


def canonical_weights(named: Iterable[tuple[str, np.ndarray]], origin: str | Path) -> dict[str, np.ndarray]:
    """(name, array) pairs under any of the released spellings -> canonical names -> float32 arrays.

    Raises:
      UserError: a name stands twice, an array holds NaN or infinity, or none of the names is BiT's.
    """
    weights: dict[str, np.ndarray] = {}
    for name, value in named:
        canonical = canonical_name(name)
        if canonical in weights:
            raise UserError(f"{origin} holds {canonical} twice (again as {name}); one model, please.")
        if not np.isfinite(value).all():
            raise UserError(f"{origin} holds NaN or infinity in {name}; its training had diverged, so take another.")
        weights[canonical] = value
    if not any(re.match(r"(root_block|block\d+)/", name) for name in weights):
        seen = ", ".join(sorted(weights)[:3]) or "none at all"
        raise UserError(
            f"{origin} holds no BiT network: of its {len(weights)} arrays ({seen}) none is named as BiT's are, such as "
            "resnet/root_block/standardized_conv2d/kernel; pass weights of BiT."
        )
    head = weights.get("head/kernel")
    if head is not None and head.ndim == 4 and head.shape[:2] == (1, 1):
        weights["head/kernel"] = head[0, 0]
    return weights


def _read_npz(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    if not path.is_file():
        raise UserError(f"The weights file {path} does not exist; pass a released BiT .npz file with --weights.")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            for name in arrays.files:
                yield name, np.asarray(arrays[name], np.float32)
    # TypeError: a bare .npy array is no context. RuntimeError and NotImplementedError: kinds of zip nobody reads.
    except (ValueError, TypeError, RuntimeError, EOFError, OSError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"The weights file {path} is damaged or no .npz ({error}); download it again.") from error


def is_saved_model(folder: str | Path) -> bool:
    """True where a SavedModel lies in `folder`."""
    return Path(folder, "saved_model.pb").is_file()


def resolve_module(handle: str) -> Path:
    """The folder of a SavedModel: `handle` itself, or where tensorflow-hub has it in its cache or fetches it to.

    Raises:
      UserError: it is neither such a folder nor a URL, or cannot be fetched.
    """
    if "://" not in handle:
        if not is_saved_model(handle):
            raise UserError(f"{handle} is no .npz file, no SavedModel folder and no URL of a TF Hub module.")
        return Path(handle)
    import tensorflow_hub as hub

    try:
        folder = hub.resolve(handle)
    except Exception as error:  # noqa: BLE001  tensorflow-hub lets through whatever the network library raises
        cache = os.environ.get("TFHUB_CACHE_DIR") or "which is not set"
        raise UserError(
            f"The TF Hub module {handle} could not be fetched ({first_line(error)}) and is not in the cache of "
            f"TFHUB_CACHE_DIR ({cache}); without a network set it to a cache that holds the module, or pass the "
            "folder of a downloaded module, a released .npz file, a run folder, a .keras file or a shipped model."
        ) from error
    if not is_saved_model(folder):
        raise UserError(f"The TF Hub handle {handle} leads to {folder}, which holds no SavedModel; pass another.")
    return Path(folder)


def _read_saved_variables(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    try:
        reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
        objects = TrackableObjectGraph.FromString(reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
        # By key: two variables may bear one name, and then both are handed over.
        names = {a.checkpoint_key: a.full_name for node in objects.nodes for a in node.attributes if a.full_name}
        for key, name in names.items():
            yield name, np.asarray(reader.get_tensor(key), np.float32)
    except (tf.errors.OpError, ValueError, IndexError, RuntimeError, DecodeError) as error:
        reason = first_line(error)
        raise UserError(f"The variables of {folder} cannot be read ({reason}); fetch the module again.") from error


def first_line(error: Exception) -> str:
    """What `error` says, in one line; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def assign_weights(model: tf.keras.Model, weights: dict[str, np.ndarray], *, skip: tuple[str, ...] = ()) -> None:
    """Fills every variable of `model`; a bijection by name and shape, or an error that lists what is left over.

    Args:
      model: a BiT graph.
      weights: canonical names -> arrays.
      skip: names that may stay unused, such as `HEAD` for a graph without one.

    Raises:
      UserError: with the names only in the graph, only in the checkpoint, and of another shape.
    """
    variables = graph_variables(model)
    arrays = {name: value for name, value in weights.items() if name not in skip}
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
