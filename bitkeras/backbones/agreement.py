"""What a SavedModel of BiT computes, against what the graph rebuilt from its variables computes."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.backbones.checkpoints import first_line
from bitkeras.errors import UserError

# Of the largest value. Two float32 programs of one network differ by some 1e-4 (docs/results/parity.md), the two
# ranges by several hundredths: standardised kernels sum to zero, so only the zeros around a picture tell them apart.
TOLERANCE = 1e-3


def module_outputs(folder: Path, images: np.ndarray, *, origin: str) -> tuple[np.ndarray, dict] | None:
    """Calls a module on the same pictures in both ranges that a module may have been made for.

    Args:
      folder: of the SavedModel.
      images: float32 [n, S, S, 3] in [0, 1].
      origin: what errors call the module.

    Returns:
      (the images, resized where the module takes one size only; "[0, 1]" and "[-1, 1]" -> output, float32 [n, ...]), or
      None where nothing in the module can be called.

    Raises:
      UserError: it cannot be loaded, or not be called on images.
    """
    try:
        module = tf.saved_model.load(str(folder))
    except Exception as error:  # noqa: BLE001  a SavedModel is a program of others, and loading runs it
        raise UserError(
            f"The module {origin} cannot be loaded ({first_line(error)}); fetch it again, or pass its weights as .npz."
        ) from error
    found = _call_of(module)
    if found is None:
        return None
    call, functions = found
    size = _fixed_size(functions)
    if size:
        images = np.clip(tf.image.resize(images, size, antialias=True), 0, 1)
    try:
        inputs = {"[0, 1]": images, "[-1, 1]": images * 2 - 1}
        outputs = {name: np.asarray(call(tf.constant(given))) for name, given in inputs.items()}
    except Exception as error:  # noqa: BLE001  as above
        raise UserError(
            f"The module {origin} cannot be called on images {images.shape} ({first_line(error)}); pass its weights "
            "as .npz."
        ) from error
    # A loaded module refers to itself, and would keep its variables (3.7 GB for R152x4) beside the rebuilt network's.
    del module, call, functions, found
    gc.collect()
    return images, outputs


def compare(theirs: dict[str, np.ndarray], ours: dict[str, np.ndarray], *, origin: str, backbone: str) -> dict:
    """The range under which the module computes what the rebuilt graph does.

    Args:
      theirs: "[0, 1]" and "[-1, 1]" -> the module's output for images in that range: [n, D] or [n, 1, 1, D].
      ours: "features" [n, D] and maybe "logits" [n, K], of the rebuilt graph.
      origin: what errors call the module.
      backbone: what errors call the graph.

    Returns:
      input_range, max_relative_difference (largest difference over the module's largest value), other_range,
      other_difference, distinct (False where these images do not tell the ranges apart), num_images, output (a key of
      `ours`).

    Raises:
      UserError: they agree under neither range, or the shapes differ.
    """
    differences, output = {}, ""
    for input_range, given in theirs.items():
        output, differences[input_range] = _difference(given, ours, origin)
    num_images = len(ours["features"])
    best, other = sorted(differences, key=lambda input_range: np.nan_to_num(differences[input_range], nan=np.inf))
    # Written so that NaN is refused, too.
    if not differences[best] <= TOLERANCE:
        told = " and ".join(f"{value:.2g} for {input_range}" for input_range, value in differences.items())
        raise UserError(
            f"The module {origin} and {backbone} filled with its weights do not agree: on {num_images} images the "
            f"largest difference of their {output} is {told}, as a share of the largest value ({TOLERANCE:g} is "
            "allowed); it is not BiT as released; pass another module."
        )
    return {
        "input_range": best,
        "max_relative_difference": differences[best],
        "other_range": other,
        "other_difference": differences[other],
        "distinct": bool(differences[other] > max(TOLERANCE, 10 * differences[best])),
        "num_images": num_images,
        "output": output,
    }


def agreement_line(agreement: dict) -> str:
    """What `compare` found, for the log."""
    line = (
        f"the module's own {agreement['output']} on {agreement['num_images']} images and the rebuilt network's differ "
        f"by {agreement['max_relative_difference']:.1e} for its input range {agreement['input_range']} "
        f"({agreement['other_difference']:.1e} for {agreement['other_range']})"
    )
    return line if agreement["distinct"] else f"{line}; these images do not tell the two ranges apart"


def _call_of(module) -> tuple[Callable, list] | None:
    """(images -> output, the functions behind it), or None."""
    if callable(module):
        return lambda images: _called(module, images), getattr(module.__call__, "concrete_functions", [])
    key = next((key for key in ("serving_default", "default") if key in getattr(module, "signatures", {})), None)
    if key is None:
        return None
    (name,) = module.signatures[key].structured_input_signature[1]

    def call(images):
        # Through the module: a signature alone does not keep its variables alive.
        outputs = module.signatures[key](**{name: images})
        return outputs["default"] if "default" in outputs else next(iter(outputs.values()))

    return call, [module.signatures[key]]


def _called(module: Callable, images: tf.Tensor) -> tf.Tensor:
    try:
        return module(images)
    except (TypeError, ValueError) as error:
        try:
            # TF Hub's interface lets a module ask for `training` without a default.
            return module(images, training=False)
        except (TypeError, ValueError):
            raise error from None


def _fixed_size(functions) -> tuple[int, int] | None:
    """Height and width, px, where every image has to have them."""
    for function in functions:
        for spec in tf.nest.flatten(function.structured_input_signature):
            if isinstance(spec, tf.TensorSpec) and spec.shape.rank == 4 and None not in spec.shape[1:3]:
                return tuple(spec.shape[1:3])
    return None


def _difference(theirs: np.ndarray, ours: dict[str, np.ndarray], origin: str) -> tuple[str, float]:
    """(which of our outputs the module's is nearest to, largest difference over the module's largest value)."""
    if theirs.ndim == 4 and theirs.shape[1:3] == (1, 1):
        theirs = theirs[:, 0, 0]
    alike = {name: value for name, value in ours.items() if value.shape == theirs.shape}
    if not alike:
        expected = " or ".join(f"{name} {value.shape}" for name, value in ours.items())
        raise UserError(f"The module {origin} gives {theirs.shape}, where {expected} were expected; pass one of BiT.")
    differences = {
        name: float(np.abs(theirs - value).max() / max(np.abs(theirs).max(), 1e-30)) for name, value in alike.items()
    }
    output = min(differences, key=differences.get)
    return output, differences[output]
