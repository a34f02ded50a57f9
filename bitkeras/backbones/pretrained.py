"""Every way in for weights: what `--weights` may name, what is known about it, and its strict assignment."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.backbones import BACKBONES, build_backbone
from bitkeras.backbones.agreement import compare, module_outputs
from bitkeras.backbones.checkpoints import (
    HEAD,
    assign_weights,
    first_line,
    graph_variables,
    is_saved_model,
    read_module,
    read_weights,
    resolve_module,
)
from bitkeras.backbones.layers import StandardizedConv2D
from bitkeras.backbones.shipped import MODELS, shipped_names, shipped_path
from bitkeras.errors import UserError
from bitkeras.precision import precision_policy
from bitkeras.runs import RunFolder

STEM_INITS = ("random", "crop")
_STEM_OF_SIZE = {7: "imagenet", 3: "cifar"}


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Weights, and what they say about the network they belong to.

    Attributes:
      origin: what the user gave.
      weights: canonical names -> float32 arrays, with the head where there is one.
      norm: "group" or "batch".
      weight_standardization: whether the network standardises its kernels at every call.
      backbone: the key in `BACKBONES` that has as many units and channels, or None.
      stem: "imagenet" (7x7), "cifar" (3x3), or None for another kernel.
      module: the folder of the SavedModel the weights were read from, or None.
    """

    origin: str
    weights: dict[str, np.ndarray]
    norm: str = "group"
    weight_standardization: bool = True
    backbone: str | None = None
    stem: str | None = None
    module: Path | None = None


def read_pretrained(weights: str | Path, *, models: Path = MODELS) -> Pretrained:
    """Weights from any way in, without looking at an image.

    Args:
      weights: name of a shipped model (it goes before a file of that name), TF Hub handle, SavedModel folder, `.npz`,
        folder of a finished run, or `.keras` file of bitkeras.
      models: where the shipped models lie.

    Raises:
      UserError: it is none of these, is not there, damaged, not finished or not BiT.
    """
    origin, path = str(weights), Path(weights)
    if origin in shipped_names(models):
        return _described(origin, read_weights(shipped_path(origin, models)))
    if "://" in origin and origin.endswith((".npz", ".keras")):
        raise UserError(f"{origin} is a file behind a URL; download it and pass the path of the file.")
    if "://" in origin or is_saved_model(path):
        module = resolve_module(origin)
        return _described(origin, read_module(module, origin), module=module)
    if origin.endswith(".npz"):
        return _described(origin, read_weights(path))
    if origin.endswith(".keras"):
        return _read_keras(origin, path)
    run = RunFolder(path)
    if run.is_finished:
        return _read_keras(origin, run.encoder_path)
    if run.config_path.is_file():
        raise UserError(
            f"The run {origin} is not finished (it has no {run.encoder_path.name}); give the command that started it "
            "again and let it end, or pass other weights."
        )
    shipped = ", ".join(shipped_names(models)) or "none in this installation"
    what = "is a folder with neither a SavedModel nor a run in it" if path.is_dir() else "is nothing that can be read"
    raise UserError(
        f"--weights={origin} {what}; pass none (random weights), a shipped model ({shipped}), a TF Hub handle "
        "(https://tfhub.dev/google/bit/s-r50x1/1), the folder of a SavedModel of such a module, a released BiT .npz "
        "file, the folder of a finished bitkeras run, or a .keras file of bitkeras."
    )


def _described(origin: str, weights: dict[str, np.ndarray], **kwargs) -> Pretrained:
    kernel = weights.get("root_block/conv/kernel", np.empty(4))
    stem = _STEM_OF_SIZE.get(kernel.shape[0])
    return Pretrained(origin, weights, backbone=_backbone_of(weights, kernel.shape[-1]), stem=stem, **kwargs)


def _backbone_of(weights: dict[str, np.ndarray], stem_channels: int) -> str | None:
    units = [{name.split("/")[1] for name in weights if name.startswith(f"block{stage}/")} for stage in (1, 2, 3, 4)]
    for name, architecture in BACKBONES.items():
        if architecture.num_units == tuple(map(len, units)) and architecture.stem_channels == stem_channels:
            return name
    return None


def _read_keras(origin: str, path: Path) -> Pretrained:
    if not path.is_file():
        raise UserError(f"The file {path} does not exist; pass a .keras file written by bitkeras.")
    try:
        model = tf.keras.models.load_model(path, compile=False)
    except Exception as error:  # noqa: BLE001  Keras lets through whatever a foreign configuration runs into
        raise UserError(
            f"The file {path} cannot be loaded ({first_line(error)}); it is damaged or not of bitkeras, so pass "
            "another."
        ) from error
    weights = {name: variable.numpy() for name, variable in graph_variables(model).items()}
    norms = _norms(model)
    described = _described(origin, weights, norm=norms[0] if norms else "", weight_standardization=_standardizes(model))
    if len(norms) != 1 or described.backbone is None:
        raise UserError(f"The file {path} holds {model.name}, which is no BiT encoder of bitkeras; pass one that is.")
    return described


def _norms(model: tf.keras.Model) -> list[str]:
    kinds = {"group": tf.keras.layers.GroupNormalization, "batch": tf.keras.layers.BatchNormalization}
    return [norm for norm, kind in kinds.items() if any(isinstance(layer, kind) for layer in model.layers)]


def _standardizes(model: tf.keras.Model) -> bool:
    return any(isinstance(layer, StandardizedConv2D) for layer in model.layers)


def fill(model: tf.keras.Model, pretrained: Pretrained, *, stem_init: str | None = None) -> list[str]:
    """Assigns the weights, moving statistics too, to a graph of the same norm and kernels; all of them or none.

    Args:
      model: a BiT graph with or without a head.
      pretrained: what `read_pretrained` gave.
      stem_init: as in `fit_stem`.

    Returns:
      Lines that say what was not taken over.

    Raises:
      UserError: the graph is another one than the weights belong to.
    """
    _require_backbone(pretrained, model.name)
    (norm,) = _norms(model)
    if norm != pretrained.norm:
        raise UserError(
            f"{pretrained.origin} holds a network with {pretrained.norm} norm, and --norm={norm} was asked for; pass "
            f"--norm={pretrained.norm}" + (", or swap the norm." if pretrained.norm == "group" else ".")
        )
    if _standardizes(model) != pretrained.weight_standardization:
        kinds = ["plain kernels", "kernels that are standardised at every call (--ws=keep)"]
        theirs, ours = kinds if not pretrained.weight_standardization else kinds[::-1]
        raise UserError(f"{pretrained.origin} holds {theirs}, and the network to fill has {ours}; the two must agree.")
    weights, message = fit_stem(pretrained.weights, model, stem_init)
    messages = [message] if message else []
    skip = () if "head/kernel" in graph_variables(model) else HEAD
    if skip and "head/kernel" in weights:
        messages.append(f"the head of {weights['head/kernel'].shape[-1]} classes is left out")
    assign_weights(model, weights, skip=skip)
    return messages


def fit_stem(
    weights: dict[str, np.ndarray], model: tf.keras.Model, stem_init: str | None = None
) -> tuple[dict[str, np.ndarray], str | None]:
    """Gives a graph with the 3x3 stem a kernel of that size where the weights hold the 7x7 one.

    Args:
      weights: canonical names -> arrays; left as they are.
      model: a BiT graph.
      stem_init: "random" (and None) keeps the graph's own 3x3 kernel, "crop" takes the centre of the 7x7.

    Returns:
      (the weights with a stem kernel that fits, a line that says what was done or None where nothing was).

    Raises:
      UserError: the graph has a 7x7 stem and the weights a 3x3 one.
      ValueError: for an unknown `stem_init`.
    """
    if stem_init not in (None, *STEM_INITS):
        raise ValueError(f"stem_init is {stem_init!r}; known are {', '.join(STEM_INITS)}.")
    name = "root_block/conv/kernel"
    own = graph_variables(model)[name]
    given = weights[name].shape[0] if name in weights else own.shape[0]
    if (own.shape[0], given) == (7, 3):
        raise UserError("The weights have the 3x3 stem, and no 7x7 kernel can be made of it; pass --stem=cifar.")
    if (own.shape[0], given) != (3, 7):
        return weights, None
    if stem_init == "crop":
        cropped = weights[name][2:5, 2:5]
        return {**weights, name: cropped}, "the 3x3 stem starts from the centre of the 7x7 kernel (--stem_init=crop)"
    line = "the 7x7 stem kernel is left out: the 3x3 stem starts at random (--stem_init=random; crop takes its centre)"
    return {**weights, name: own.numpy()}, line


def _require_backbone(pretrained: Pretrained, backbone: str) -> None:
    if pretrained.backbone is not None and backbone in BACKBONES and backbone != pretrained.backbone:
        raise UserError(
            f"{pretrained.origin} holds the weights of {pretrained.backbone}, and --backbone={backbone} was asked for; "
            f"pass --backbone={pretrained.backbone}, or other weights."
        )


def check_against_module(pretrained: Pretrained, backbone: str, images: np.ndarray) -> dict | None:
    """Compares the rebuilt graph with the module the weights came from, on real images under both input ranges.

    The rebuilt graph gets the pictures in [-1, 1], as it always does; the module gets them in [0, 1] and in [-1, 1].
    Where it agrees tells which of the two it turns into what the graph sees, and that the network was rebuilt rightly.

    Args:
      pretrained: what `read_pretrained` gave.
      backbone: key in `BACKBONES`.
      images: float32 [n, S, S, 3] in [0, 1].

    Returns:
      The record of `agreement.compare`; None where there is no module, or nothing in it that can be called.

    Raises:
      UserError: the module agrees under neither range, or cannot be compared.
      ValueError: for images outside [0, 1].
    """
    if pretrained.module is None:
        return None
    _require_backbone(pretrained, backbone)
    images = np.asarray(images, np.float32)
    if images.min() < 0 or images.max() > 1:
        raise ValueError(f"The images lie in [{images.min()}, {images.max()}] and not in [0, 1].")
    with _full_float32():
        called = module_outputs(pretrained.module, images, origin=pretrained.origin)
        if called is None:
            return None
        images, theirs = called
        ours = _rebuilt_outputs(pretrained, backbone, images * 2 - 1)
    # A Keras graph refers to itself, and would stay beside the one that is built next.
    gc.collect()
    return compare(theirs, ours, origin=pretrained.origin, backbone=backbone)


def _rebuilt_outputs(pretrained: Pretrained, backbone: str, images: np.ndarray) -> dict[str, np.ndarray]:
    """Features [n, D] and, where the weights hold a head, logits [n, K], of images in [-1, 1]."""
    head = pretrained.weights.get("head/kernel")
    graph = build_backbone(
        backbone, stem=pretrained.stem or "imagenet", num_classes=None if head is None else head.shape[-1]
    )
    fill(graph, pretrained)
    outputs = {"features": graph.get_layer("features").output}
    if head is not None:
        outputs["logits"] = graph.output
    return {name: output.numpy() for name, output in tf.keras.Model(graph.input, outputs)(images).items()}


@contextlib.contextmanager
def _full_float32() -> Iterator[None]:
    """Computes in float32 with all its digits; a comparison would otherwise measure the rounding of policy or TF32."""
    tf32 = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        with precision_policy("float32"):
            yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(tf32)
