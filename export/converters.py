"""A pushed model in the formats of other engines: its `pixels` signature, as far as it is numbers.

They know no image decoder and no antialiased resize, so callers decode and scale themselves; class names and the
out-of-distribution score are left out (strings, and a search that ONNX lacks).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from bitkeras.errors import UserError
from export.engines import ENGINES, NUMBERS, Engine, is_installed

# The newest that tf2onnx 1.17 writes without changing a ResNet's operations.
ONNX_OPSET = 17
# Relative to the largest value; a ResNet-50's features move by about 1e-5 between engines.
TOLERANCE = 1e-4


class PixelsToNumbers(tf.Module):
    """The numbers of a SavedModel's `pixels` signature as a model of its own.

    Attributes:
      spec: of its input, float32 [None, S, S, 3].
    """

    def __init__(self, folder: str | Path):
        """Loads `folder`."""
        super().__init__(name="numbers")
        loaded = tf.saved_model.load(str(folder))
        pixels = loaded.signatures["pixels"]
        self.spec = tf.TensorSpec(pixels.structured_input_signature[1]["images"].shape, tf.float32, name="images")

        names = [name for name in NUMBERS if name in pixels.structured_outputs]

        @tf.function(input_signature=[self.spec], autograph=False)
        def answer(images):
            answered = pixels(images=images)
            return [answered[name] for name in names]

        # tf2onnx takes captured constants, of which a frozen model has some, for inputs.
        frozen = convert_variables_to_constants_v2(answer.get_concrete_function())

        @tf.function(input_signature=[self.spec], autograph=False)
        def numbers(images):
            return dict(zip(names, tf.nest.flatten(frozen(images))))

        self.numbers = numbers

    def save(self, folder: Path) -> None:
        """As a SavedModel, which is what most converters read."""
        tf.saved_model.save(self, str(folder), signatures=self.numbers)


def to_onnx(model: PixelsToNumbers, path: Path, scratch: Path) -> None:
    """ONNX by tf2onnx, about a minute for a ResNet-50."""
    import onnx
    import tf2onnx

    converted, _ = tf2onnx.convert.from_function(model.numbers, input_signature=[model.spec], opset=ONNX_OPSET)
    onnx.save(converted, str(path))


def to_openvino(model: PixelsToNumbers, path: Path, scratch: Path) -> None:
    """OpenVINO's .xml with a .bin beside it, in float32."""
    import openvino as ov

    model.save(scratch)
    ov.save_model(ov.convert_model(str(scratch)), str(path), compress_to_fp16=False)


def to_tflite(model: PixelsToNumbers, path: Path, scratch: Path) -> None:
    """TFLite, in float32."""
    model.save(scratch)
    path.write_bytes(tf.lite.TFLiteConverter.from_saved_model(str(scratch)).convert())


CONVERTERS: dict[str, Callable] = {"onnx": to_onnx, "openvino": to_openvino, "tflite": to_tflite}
FILES = {"onnx": "model.onnx", "openvino": "model.xml", "tflite": "model.tflite"}
# Format -> the engine that runs it, and what both need beyond what bitkeras is installed with.
ENGINE_OF = {"onnx": "onnxruntime", "openvino": "openvino", "tflite": "tflite"}
NEEDED = {"onnx": ("tf2onnx", "onnx", "onnxruntime"), "openvino": ("openvino",), "tflite": ()}


def missing_modules(name: str) -> list[str]:
    """Modules that the format `name` needs and that are not installed."""
    return [module for module in NEEDED[name] if not is_installed(module)]


def require_formats(names: Sequence[str]) -> None:
    """UserError for an unknown format, and for one whose packages are not installed."""
    for name in names:
        if name not in CONVERTERS:
            raise UserError(f"There is no format {name!r}; pass some of {', '.join(CONVERTERS)}.")
        if missing_modules(name):
            missing = ", ".join(missing_modules(name))
            raise UserError(f"The format {name} needs {missing}; install them: pip install 'bitkeras[convert]'.")


def convert(model: PixelsToNumbers, name: str, folder: Path) -> Path:
    """Writes the format `name` into `folder`, and returns its file."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bitkeras-convert-") as scratch:
        CONVERTERS[name](model, folder / FILES[name], Path(scratch) / "numbers")
    return folder / FILES[name]


def load_converted(name: str, path: Path, *, num_threads: int) -> Engine:
    """What runs the file of the format `name`."""
    return ENGINES[ENGINE_OF[name]](path, num_threads)


def largest_difference(engine: Engine, reference: Engine, images: np.ndarray) -> float:
    """Of all numbers, relative to the largest of its output; infinite where one is missing or not finite."""
    got, wanted = engine(images), reference(images)
    if got.keys() != wanted.keys():
        return float("inf")
    distances = [np.abs(got[name] - wanted[name]).max() / np.abs(wanted[name]).max() for name in wanted]
    return float(max(distances)) if np.isfinite(distances).all() else float("inf")
