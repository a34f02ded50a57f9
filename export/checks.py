"""What a reloaded SavedModel is held to before it is published.

A check is a function of (answer, expected) that returns None or a sentence with numbers and images, and a
line in `CHECKS`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import numpy as np

from bitkeras.evaluation.novelty import Familiar, novelty

# Absolute for probabilities, relative to the largest value for embeddings. Graph optimisation reorders float32
# sums, which moves a ResNet's features by about 1e-6; a wrong resize or range moves them by more than 1e-2.
TOLERANCE = 1e-4
# Constants and folded norms change no more than rounding does.
FROZEN_TOLERANCE = 1e-5
# bfloat16 has 8 bits: a random R50x1 is moved by 0.6 % of its largest feature, and a head may enlarge it. What it costs
# is for the gate to say, on the test part.
BFLOAT16_TOLERANCE = 0.1
# What state, chance or Python would put into an answer; `Assign` is batch normalisation in training mode.
FORBIDDEN_OPS = re.compile(r"Assign|Random|PyFunc|TruncatedNormal|Multinomial|^Resource(Apply|Scatter)")
# What TF Serving can write as JSON; float16 and bfloat16 fail with an error.
REST_DTYPES = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool", "string")
OUR_MODULES = ("bitkeras", "pipelines", "keras_cv", "tensorflow_addons", "tensorflow_hub")


@dataclasses.dataclass(frozen=True)
class Expected:
    """Keras' answer to N images.

    Attributes:
      class_names: K names; none of an encoder alone.
      pixels: float32 [N, S, S, 3] in [-1, 1].
      probabilities: float32 [N, K]; None of an encoder alone.
      embedding: float32 [N, D].
      ood_score: float32 [N] in [0, 1].
      ood_step: the smallest difference of two such scores.
      familiar: where given, what the score is computed again from, for the embedding that came out.
      tolerance: of probabilities (absolute) and embeddings (relative to the largest value).
    """

    class_names: tuple[str, ...]
    pixels: np.ndarray
    probabilities: np.ndarray | None
    embedding: np.ndarray
    ood_score: np.ndarray
    ood_step: float
    familiar: Familiar | None = None
    tolerance: float = TOLERANCE


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the SavedModel answered in its own process.

    Attributes:
      outputs: {run: {output: array}} with the runs `batch` (all images in one request), `alone` (one request
        each), `damaged` (as `batch`, with what is no image before and behind), `pixels`, `examples`, `embed` (the
        other signatures) and `call` (`__call__`, embedding only).
      report: `ops` and `outputs` of every signature and the imported `modules`.
    """

    outputs: dict[str, dict[str, np.ndarray]]
    report: dict


def check_class_names(answer: Answer, expected: Expected) -> str | None:
    """The names are K and stand in label order in every row."""
    for run in ("batch", "alone", "pixels", "examples"):
        classes = answer.outputs[run]["classes"]
        wanted = np.tile(np.array(expected.class_names), [len(expected.pixels), 1])
        if classes.shape != wanted.shape or (classes != wanted).any():
            return f"{run} answers {classes[:1].tolist()} (shape {classes.shape}), expected {wanted[:1].tolist()}"
    return None


def check_probabilities(answer: Answer, expected: Expected) -> str | None:
    """Within the tolerance of Keras, through either signature."""
    return _first_far(
        answer, "probabilities", ("batch", "pixels", "examples"), expected.probabilities, expected.tolerance, "Keras"
    )


def check_embedding(answer: Answer, expected: Expected) -> str | None:
    """Within the tolerance of Keras, relative to the largest value, through either signature and `__call__`."""
    allowed = expected.tolerance * float(np.abs(expected.embedding).max())
    runs = ("batch", "pixels", "examples", "embed", "call")
    return _first_far(answer, "embedding", runs, expected.embedding, allowed, "Keras")


def check_ood_score(answer: Answer, expected: Expected) -> str | None:
    """Within one validation image of NumPy's; rounding may move a distance past its neighbour."""
    got = {run: {"ood_score": answer.outputs[run]["ood_score"][:, np.newaxis]} for run in ("batch", "pixels")}
    compared = dataclasses.replace(answer, outputs=got)
    wanted = expected.ood_score[:, np.newaxis]
    if expected.familiar is not None:
        wanted = novelty(expected.familiar, answer.outputs["batch"]["embedding"])[:, np.newaxis]
    return _first_far(compared, "ood_score", tuple(got), wanted, 1.5 * expected.ood_step, "NumPy")


def check_damaged(answer: Answer, expected: Expected) -> str | None:
    """What is no image has an empty row, and leaves the others as they are."""
    outputs = answer.outputs["damaged"]
    statuses = ["unreadable", *["ok"] * len(expected.pixels), "unreadable"]
    if outputs["status"].tolist() != statuses:
        return f"two rows that are no image, first and last, have the statuses {outputs['status'].tolist()}"
    ends = [outputs[name][[0, -1]] for name in ("probabilities", "embedding", "prediction") if name in outputs]
    if any((end != np.zeros_like(end)).any() for end in ends):
        return "rows that are no image are not empty"
    inner = dataclasses.replace(answer, outputs={"damaged": {"embedding": outputs["embedding"][1:-1]}})
    allowed = expected.tolerance * float(np.abs(expected.embedding).max())
    return _first_far(inner, "embedding", ("damaged",), answer.outputs["batch"]["embedding"], allowed, "a sound batch")


def check_alone(answer: Answer, expected: Expected) -> str | None:
    """An image is answered alike alone and among others; batch normalisation in training mode is not."""
    batch = answer.outputs["batch"]
    allowed = expected.tolerance * float(np.abs(batch["embedding"]).max())
    far = _first_far(answer, "embedding", ("alone",), batch["embedding"], allowed, "the same in a batch")
    if far or not expected.class_names:
        return far
    return _first_far(
        answer, "probabilities", ("alone",), batch["probabilities"], expected.tolerance, "the same in a batch"
    )


def check_sums(answer: Answer, expected: Expected) -> str | None:
    """Probabilities are in [0, 1] and sum to 1."""
    probabilities = answer.outputs["batch"]["probabilities"]
    sums = probabilities.sum(axis=-1)
    wrong = ~((np.abs(sums - 1) <= TOLERANCE) & (probabilities >= 0).all(axis=-1))
    return f"image(s) {_name(wrong)} sum to {sums[wrong][:5].tolist()}" if wrong.any() else None


def check_prediction(answer: Answer, expected: Expected) -> str | None:
    """`prediction` is the class of the highest probability."""
    outputs = answer.outputs["batch"]
    wanted = np.array(expected.class_names)[outputs["probabilities"].argmax(axis=-1)]
    wrong = outputs["prediction"] != wanted
    if wrong.any():
        return (
            f"image(s) {_name(wrong)} answered {outputs['prediction'][wrong][:5]}, most likely is {wanted[wrong][:5]}"
        )
    return None


def check_ops(answer: Answer, expected: Expected) -> str | None:
    """No op that changes state, draws numbers or needs Python is reachable from a signature."""
    for signature, ops in answer.report["ops"].items():
        bad = [op for op in ops if FORBIDDEN_OPS.search(op)]
        if bad:
            return f"signature {signature} reaches {', '.join(bad)}"
    return None


def check_outputs(answer: Answer, expected: Expected) -> str | None:
    """Every output has a free leading dimension and a dtype that REST can write."""
    for signature, outputs in answer.report["outputs"].items():
        for name, spec in outputs.items():
            if spec["dtype"] not in REST_DTYPES or not spec["shape"] or spec["shape"][0] is not None:
                return f"output {name} of {signature} is {spec['dtype']} {spec['shape']}"
    return None


def check_modules(answer: Answer, expected: Expected) -> str | None:
    """The process that answered had imported none of our code."""
    ours = [module for module in answer.report["modules"] if module in OUR_MODULES]
    return f"it imported {', '.join(ours)}" if ours else None


def checks_of(expected: Expected) -> dict[str, Callable[[Answer, Expected], str | None]]:
    """Those of `CHECKS` that there is something to check of."""
    return {name: check for name, check in CHECKS.items() if expected.class_names or name not in _OF_CLASSES}


# What explains a wrong number comes before the numbers.
CHECKS = {
    "foreign code": check_modules,
    "ops": check_ops,
    "output types": check_outputs,
    "class names": check_class_names,
    "probabilities": check_probabilities,
    "embedding": check_embedding,
    "images alone": check_alone,
    "damaged images": check_damaged,
    "out-of-distribution score": check_ood_score,
    "probability sums": check_sums,
    "prediction": check_prediction,
}
_OF_CLASSES = ("class names", "probabilities", "probability sums", "prediction")


def _first_far(answer, output, runs, wanted, allowed, reference) -> str | None:
    for run in runs:
        got = answer.outputs[run][output]
        if got.shape != wanted.shape:
            return f"{run} has shape {got.shape}, {reference} {wanted.shape}"
        distances = np.abs(got - wanted).max(axis=-1)
        far = ~(distances <= allowed)  # negated, so that NaN is far
        if far.any():
            worst = int(np.argmax(np.where(np.isnan(distances), np.inf, distances)))
            return (
                f"{run} differs from {reference} by up to {distances[worst]:.3g} (allowed {allowed:.3g}) at image "
                f"{worst}; beyond it: image(s) {_name(far)} of {len(far)}"
            )
    return None


def _name(mask: np.ndarray) -> str:
    indices = np.flatnonzero(mask)
    return ", ".join(map(str, indices[:8])) + (", ..." if len(indices) > 8 else "")
