"""What one request takes: TensorFlow as a model is pushed, and the engines that it can be converted to.

Each engine is a process of its own. One works at a time and the others are stopped, as in `view_rates`, so that what
else the machine does hits all of them.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.errors import UserError
from bitkeras.evaluation.novelty import MAX_REFERENCES, Familiar
from export.converters import ENGINE_OF, PixelsToNumbers, convert, missing_modules
from export.servable import Servable
from export.signatures import pixels
from pipelines.encoders import build_encoder
from pipelines.runtime import say
from pipelines.view_rates import take_turns

REFERENCE = "onnxruntime float32"
PUSHED = "TensorFlow, as pushed"
# Label -> how the servable is made.
FORMS = {
    PUSHED: {},
    "TensorFlow, frozen": {"freeze": True},
    "TensorFlow, frozen, bfloat16": {"freeze": True, "precision": "bfloat16"},
}
# Label -> engine and the format it reads.
OTHERS = {
    REFERENCE: ("onnxruntime", "onnx"),
    "OpenVINO float32": ("openvino", "openvino"),
    "OpenVINO bfloat16": ("openvino_bfloat16", "openvino"),
    "TFLite float32": ("tflite", "tflite"),
}
_NUM_CLASSES = 7


def compare(config: dict) -> list[dict]:
    """Runs all engines on one model.

    Args:
      config: the flags model, backbone, norm, stem, image_size, serving_batches, num_threads and turns.

    Returns:
      For each engine and batch size: engine, batch_size, milliseconds (median over the turns), fastest_milliseconds,
      images_per_second and to_onnxruntime, how many times as long it takes (None without onnxruntime).

    Raises:
      UserError: --serving_batches is no list of numbers, or --model holds no such model.
    """
    batch_sizes = _batch_sizes(config["serving_batches"])
    with tempfile.TemporaryDirectory(prefix="bitkeras-serving-") as scratch:
        pushed, image_size = _models(config, Path(scratch))
        work = [str(config["num_threads"]), str(image_size), *map(str, batch_sizes)]
        made = {**{label: ("tensorflow", path) for label, path in pushed.items()}, **_converted(pushed, Path(scratch))}
        commands = {
            label: [sys.executable, "-m", "export.engines", engine, str(path), *work]
            for label, (engine, path) in made.items()
        }
        say(f"{len(commands)} engines take turns")
        # The first turn does not count, so that turns 1, 2, ... begin with the second batch size.
        seconds = take_turns(commands, turns=config["turns"] * len(batch_sizes))
    return _rows({label: _by_batch(times, batch_sizes) for label, times in seconds.items()})


def _batch_sizes(text: str) -> list[int]:
    sizes = [part.strip() for part in text.split(",")]
    if not all(size.isdigit() and int(size) for size in sizes):
        raise UserError(f"--serving_batches is {text!r}; pass numbers of images from 1 on, such as 1,16.")
    return list(dict.fromkeys(int(size) for size in sizes))


def _models(config: dict, scratch: Path) -> tuple[dict[str, Path], int]:
    """Label -> SavedModel, and the side of its images."""
    if config["model"] is None:
        return _random_models(config, scratch), config["image_size"]
    folder = Path(config["model"])
    if not (folder / "saved_model.pb").is_file():
        raise UserError(f"--model={folder} is no version that was pushed: it holds no saved_model.pb.")
    say("a pushed model is measured as it is; push it with --freeze or --serve_precision=bfloat16 for these")
    return {PUSHED: folder}, PixelsToNumbers(folder).spec.shape[1]


def _random_models(config: dict, scratch: Path) -> dict[str, Path]:
    """A random network with a head of 7 classes and as many references as a probe keeps, in all `FORMS`."""
    rng = np.random.default_rng(0)
    tf.keras.utils.set_random_seed(0)
    encoder = build_encoder(config)
    _give_norms_values(encoder, rng)
    num_features = encoder.output_shape[-1]
    head = rng.normal(0, 0.01, [num_features, _NUM_CLASSES]), np.zeros(_NUM_CLASSES)
    references = rng.normal(size=[MAX_REFERENCES, num_features]).astype(np.float32)
    references /= np.linalg.norm(references, axis=1, keepdims=True)
    familiar = Familiar(references, np.linspace(0, 2, MAX_REFERENCES, dtype=np.float32))
    names = [f"class {number}" for number in range(_NUM_CLASSES)]
    folders = {}
    for number, (label, options) in enumerate(FORMS.items()):
        say(f"writing {config['backbone']} at random: {label}")
        servable = Servable(
            encoder, *head, familiar=familiar, class_names=names, image_size=config["image_size"], **options
        )
        folders[label] = scratch / f"pushed{number}"
        signatures = {"pixels": pixels(servable).get_concrete_function()}
        tf.saved_model.save(servable, str(folders[label]), signatures=signatures)
    return folders


def _give_norms_values(encoder: tf.keras.Model, rng: np.random.Generator) -> None:
    """Offsets as a trained network has them.

    A bias that is zero is taken out of the graph, and the ReLU behind it is then no part of the convolution.
    """
    for variable in encoder.variables:
        if variable.name.split("/")[-1].startswith(("beta", "moving_mean")):
            variable.assign(rng.normal(0, 0.1, variable.shape))


def _converted(pushed: dict[str, Path], scratch: Path) -> dict[str, tuple[str, Path]]:
    """Label -> engine and file, of those that are installed."""
    model, files, found = PixelsToNumbers(pushed[PUSHED]), {}, {}
    for name in ENGINE_OF:
        if missing_modules(name):
            say(f"without {name}: {', '.join(missing_modules(name))} not installed (pip install 'bitkeras[convert]')")
            continue
        say(f"converting to {name}")
        files[name] = convert(model, name, scratch / name)
    for label, (engine, name) in OTHERS.items():
        if name in files:
            found[label] = engine, files[name]
    return found


def _by_batch(seconds: list[float], batch_sizes: list[int]) -> dict[int, list[float]]:
    # Turn 0 was the first size's and is not among them.
    return {size: seconds[(place - 1) % len(batch_sizes) :: len(batch_sizes)] for place, size in enumerate(batch_sizes)}


def _rows(seconds: dict[str, dict[int, list[float]]]) -> list[dict]:
    rows = []
    for label, by_batch in seconds.items():
        for size, times in by_batch.items():
            median = statistics.median(times)
            reference = statistics.median(seconds[REFERENCE][size]) if REFERENCE in seconds else None
            rows.append(
                {
                    **{"engine": label, "batch_size": size, "milliseconds": 1000 * median},
                    **{"fastest_milliseconds": 1000 * min(times), "images_per_second": size / median},
                    "to_onnxruntime": median / reference if reference else None,
                }
            )
    return rows


def lines(rows: list[dict]) -> list[str]:
    """A table in Markdown."""
    told = [
        "| engine | images | ms, median | ms, fastest turn | images/s | time to onnxruntime float32 |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: row["batch_size"]):
        times = [f"{row[name]:.1f}" for name in ("milliseconds", "fastest_milliseconds", "images_per_second")]
        ratio = f"{row['to_onnxruntime']:.2f}x" if row["to_onnxruntime"] else ""
        told.append(f"| {' | '.join([row['engine'], str(row['batch_size']), *times, ratio])} |")
    return told
