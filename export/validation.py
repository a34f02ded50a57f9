"""The gate before a version is published: a fresh process must answer as Keras does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.data.preprocess import preprocess
from bitkeras.errors import UserError
from bitkeras.evaluation.calibration import softmax
from bitkeras.evaluation.novelty import Familiar, novelty
from export.checks import BFLOAT16_TOLERANCE, FROZEN_TOLERANCE, TOLERANCE, Answer, Expected, checks_of
from export.servable import Servable

TIMEOUT_SECONDS = 1800


class ValidationError(UserError):
    """A staged SavedModel does not answer as it should; the message names the check, numbers and images."""


def tolerance_of(servable: Servable) -> float:
    """How far the SavedModel may be from Keras, which computes the encoder as it was given."""
    if servable.precision == "bfloat16":
        return BFLOAT16_TOLERANCE
    return FROZEN_TOLERANCE if servable.is_frozen else TOLERANCE


def expected_answer(servable: Servable, images: Sequence[bytes]) -> Expected:
    """What Keras says to encoded images: eager encoder, head and softmax in NumPy (float64).

    UserError where an image cannot be decoded.
    """
    # On the CPU like the fresh process: a GPU's TF32 convolutions alone differ by 1e-3.
    with tf.device("/CPU:0"):
        pixels = np.stack([_decode(image, index, servable.image_size) for index, image in enumerate(images)])
        embedding = servable.encoder(pixels, training=False).numpy()
    probabilities = None
    if servable.class_names:
        logits = embedding.astype(np.float64) @ servable.head_kernel.numpy() + servable.head_bias.numpy()
        probabilities = softmax(logits).astype(np.float32)
    familiar = Familiar(servable.references.numpy(), servable.distances.numpy())
    return Expected(
        class_names=servable.class_names,
        pixels=pixels,
        probabilities=probabilities,
        embedding=embedding,
        ood_score=novelty(familiar, embedding),
        ood_step=1 / len(familiar.distances),
        # The score is a rank: what bfloat16 rounds off may move it past many, so only its own arithmetic is checked.
        familiar=familiar if servable.precision == "bfloat16" else None,
        tolerance=tolerance_of(servable),
    )


def validate(saved_model_dir: str | Path, *, images: Sequence[bytes], expected: Expected) -> Answer:
    """Load the SavedModel in a fresh process, ask it for `images`, compare with `expected`.

    Returns what came out. Raises `ValidationError` where the process fails or a check does.
    """
    answer = ask_fresh_process(saved_model_dir, images=images, pixels=expected.pixels)
    for name, check in checks_of(expected).items():
        fault = check(answer, expected)
        if fault:
            raise ValidationError(f"The SavedModel {saved_model_dir} failed the check of {name}: {fault}.")
    return answer


def ask_fresh_process(saved_model_dir: str | Path, *, images: Sequence[bytes], pixels: np.ndarray) -> Answer:
    """Run `export.check_servable` in a Python of its own, on the CPU, and read its answer."""
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    with tempfile.TemporaryDirectory(prefix="bitkeras-check-") as scratch:
        given, answered = Path(scratch, "input.npz"), Path(scratch, "output.npz")
        # Bytes and lengths, not an array of strings: NumPy cuts trailing zero bytes off.
        lengths = np.array([len(image) for image in images], np.int64)
        np.savez(given, bytes=np.frombuffer(b"".join(images), np.uint8), lengths=lengths, pixels=pixels)
        command = [sys.executable, "-m", "export.check_servable", Path(saved_model_dir).resolve(), given, answered]
        try:
            done = subprocess.run(
                list(map(str, command)), cwd=root, env=environment, capture_output=True, timeout=TIMEOUT_SECONDS
            )
        except subprocess.TimeoutExpired as error:
            raise ValidationError(f"{saved_model_dir} gave no answer within {TIMEOUT_SECONDS} s.") from error
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines()[-5:]
            raise ValidationError(
                f"The SavedModel {saved_model_dir} could not be loaded and run in a fresh process "
                f"(status {done.returncode}): " + " | ".join(lines)
            )
        return _read_answer(answered)


def _decode(image: bytes, index: int, image_size: int) -> np.ndarray:
    try:
        return preprocess(tf.constant(image), image_size).numpy()
    except tf.errors.InvalidArgumentError as error:
        raise UserError(
            f"Image {index} of those for the check before publishing is broken or no image; pass JPEG or PNG bytes."
        ) from error


def _read_answer(path: Path) -> Answer:
    outputs: dict[str, dict[str, np.ndarray]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            if key != "report":
                run, name = key.split("/")
                outputs.setdefault(run, {})[name] = arrays[key]
        return Answer(outputs, json.loads(str(arrays["report"])))
