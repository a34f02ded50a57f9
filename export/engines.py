"""Engines that run a pushed model or what it was converted to: prepared images in, numbers out.

`python -m export.engines ENGINE PATH THREADS SIDE BATCH...` is what `bitkeras benchmark --what=serving` times.
TensorFlow is imported by the engines that need it alone, so that its threads do not stand beside another's.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

# What every engine answers; class names and the out-of-distribution score are strings and a search, which some lack.
NUMBERS = ("embedding", "probabilities")
# A turn takes about so long, whatever the network and the engine.
_TURN_SECONDS = 0.5

Engine = Callable[[np.ndarray], dict[str, np.ndarray]]


def tensorflow(path: Path, num_threads: int) -> Engine:
    """The `pixels` signature of a SavedModel."""
    import tensorflow as tf

    _give_tensorflow(tf, num_threads)
    loaded = tf.saved_model.load(str(path))

    def run(images):
        # The whole signature runs, as it does in a server; `loaded` keeps the variables alive.
        answer = loaded.signatures["pixels"](images=tf.constant(images))
        return {name: answer[name].numpy() for name in NUMBERS if name in answer}

    return run


def onnxruntime(path: Path, num_threads: int) -> Engine:
    """An ONNX file, in float32."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = num_threads
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    given = session.get_inputs()[0].name
    return lambda images: dict(zip(names, session.run(names, {given: images})))


def openvino(path: Path, num_threads: int, *, precision: str = "f32") -> Engine:
    """OpenVINO's own format; it is compiled for each batch size, which is its fastest way."""
    import openvino as ov

    core, compiled = ov.Core(), {}
    options = {"INFERENCE_NUM_THREADS": num_threads, "INFERENCE_PRECISION_HINT": precision}

    def run(images):
        if images.shape not in compiled:
            model = core.read_model(path)
            model.reshape(list(images.shape))
            compiled[images.shape] = core.compile_model(model, "CPU", {**options, "PERFORMANCE_HINT": "LATENCY"})
        answer = compiled[images.shape]([images])
        return {output.get_any_name(): np.array(value) for output, value in answer.items()}

    return run


def openvino_bfloat16(path: Path, num_threads: int) -> Engine:
    """The same in bfloat16, which OpenVINO does on processors that have it."""
    return openvino(path, num_threads, precision="bf16")


def tflite(path: Path, num_threads: int) -> Engine:
    """A TFLite file on XNNPACK, in float32."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_path=str(path), num_threads=num_threads)
    runner = interpreter.get_signature_runner()
    # The runner resizes its input to the batch that comes.
    return lambda images: runner(images=images)


ENGINES = {
    "tensorflow": tensorflow,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "openvino_bfloat16": openvino_bfloat16,
    "tflite": tflite,
}
# Modules that an engine needs beyond what bitkeras is installed with; the extra `convert` has them.
MODULES = {"onnxruntime": ["onnxruntime"], "openvino": ["openvino"], "openvino_bfloat16": ["openvino"]}


def is_installed(module: str) -> bool:
    """Whether a module can be imported, without doing so."""
    return importlib.util.find_spec(module) is not None


def seconds_a_call(engine: Engine, images: np.ndarray, *, num_calls: int) -> float:
    """Median of `num_calls`, after one that does not count."""
    engine(images)
    times = []
    for _ in range(num_calls):
        started = time.perf_counter()
        engine(images)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _give_tensorflow(tf, num_threads: int) -> None:
    if num_threads and num_threads != tf.config.threading.get_intra_op_parallelism_threads():
        tf.config.threading.set_intra_op_parallelism_threads(num_threads)
        tf.config.threading.set_inter_op_parallelism_threads(num_threads)


def main(name: str, path: str, num_threads: int, image_size: int, batch_sizes: list[int]) -> None:
    """For each line that comes, seconds a call of the next batch size; the sizes take turns."""
    engine = ENGINES[name](Path(path), num_threads)
    rng = np.random.default_rng(0)
    work = []
    for batch_size in batch_sizes:
        images = rng.uniform(-1, 1, [batch_size, image_size, image_size, 3]).astype(np.float32)
        # The first call compiles, the second tells how long one takes.
        seconds_a_call(engine, images, num_calls=1)
        num_calls = round(_TURN_SECONDS / seconds_a_call(engine, images, num_calls=1))
        work.append((images, min(50, max(1, num_calls))))
    print("ready", flush=True)
    for turn, _ in enumerate(sys.stdin):
        images, num_calls = work[turn % len(work)]
        print(seconds_a_call(engine, images, num_calls=num_calls), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:5]), [int(size) for size in sys.argv[5:]])
