"""A pushed model in other formats beside it: converted, compared with the SavedModel, timed."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from bitkeras.data.preprocess import preprocess
from bitkeras.errors import UserError
from export.artifacts import Execution
from export.converters import (
    TOLERANCE,
    PixelsToNumbers,
    convert,
    largest_difference,
    load_converted,
    require_formats,
)
from export.engines import ENGINES, Engine, seconds_a_call
from pipelines.runtime import say

_TIMED_CALLS = 10


def parse_formats(text: str, precision: str) -> list[str]:
    """`onnx,tflite` -> formats.

    Args:
      text: as --also gives it.
      precision: of the model that will be converted.

    Raises:
      UserError: an unknown format, one whose packages are not installed, or a model that is not float32.
    """
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    require_formats(names)
    if names and precision != "float32":
        raise UserError(
            f"--also converts models of float32, and --serve_precision is {precision}; push without one of the two "
            "(OpenVINO computes a float32 model in bfloat16 by itself where the processor can)."
        )
    return names


def convert_all(execution: Execution, names: Sequence[str], images: Sequence[bytes]) -> None:
    """Writes the exported model in every format into `Converter/<format>/<id>`, and tells how far off and how fast.

    Args:
      execution: whose model it is.
      names: of formats.
      images: encoded, that both are asked about.

    Raises:
      UserError: a converted model answers otherwise than the SavedModel.
    """
    if not names:
        return
    model = PixelsToNumbers(execution.model)
    pixels = np.stack([preprocess(tf.constant(image), model.spec.shape[1]).numpy() for image in images])
    num_threads = os.cpu_count() or 1
    # TensorFlow has its threads by now, as many as there are cores.
    reference = ENGINES["tensorflow"](execution.model, 0)
    say(f"  the SavedModel takes {_milliseconds(reference, pixels):.1f} ms for an image of pixels")
    for name in names:
        say(f"  converting to {name}")
        path = convert(model, name, execution.folder("Converter", name))
        engine = load_converted(name, path, num_threads=num_threads)
        difference = largest_difference(engine, reference, pixels)
        if not difference <= TOLERANCE:
            raise UserError(
                f"{path} differs from the SavedModel by {difference:.2g} of the largest value, {TOLERANCE:g} is "
                f"allowed; nothing was published. Push without --also={name}."
            )
        say(f"  {path}: within {difference:.1g} of the SavedModel, {_milliseconds(engine, pixels):.1f} ms")


def _milliseconds(engine: Engine, pixels: np.ndarray) -> float:
    return 1000 * seconds_a_call(engine, pixels[:1], num_calls=_TIMED_CALLS)
