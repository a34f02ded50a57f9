"""Every check lets a right answer pass and names what is wrong with a wrong one."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from small_servable import CLASS_NAMES, IMAGE_SIZE

from export.checks import CHECKS, Answer, Expected

N = 4


@pytest.fixture()
def expected():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), N).astype(np.float32)
    pixels = np.zeros([N, IMAGE_SIZE, IMAGE_SIZE, 3], np.float32)
    embedding = rng.normal(0, 50, [N, 8]).astype(np.float32)
    return Expected(CLASS_NAMES, pixels, probabilities, embedding, np.linspace(0, 1, N, dtype=np.float32), 0.01)


@pytest.fixture()
def answer(expected):
    outputs = {
        "classes": np.tile(np.array(CLASS_NAMES), [N, 1]),
        "probabilities": expected.probabilities,
        "prediction": np.array(CLASS_NAMES)[expected.probabilities.argmax(axis=-1)],
        "embedding": expected.embedding,
        "ood_score": expected.ood_score,
    }
    runs = {run: copy.deepcopy(outputs) for run in ("batch", "alone", "pixels", "examples", "embed")}
    empty = {name: np.zeros_like(values[:1]) for name, values in outputs.items()}
    runs["damaged"] = {name: np.concatenate([empty[name], values, empty[name]]) for name, values in outputs.items()}
    runs["damaged"]["status"] = np.array(["unreadable", *["ok"] * N, "unreadable"])
    runs["call"] = {"embedding": expected.embedding.copy()}
    specs = {"embedding": {"dtype": "float32", "shape": [None, 8]}, "prediction": {"dtype": "string", "shape": [None]}}
    ops = {"serving_default": ["DecodeImage", "ReadVariableOp", "Assert"], "pixels": ["ReadVariableOp"]}
    report = {"ops": ops, "outputs": {"serving_default": specs}, "modules": ["numpy", "tensorflow", "export"]}
    return Answer(runs, copy.deepcopy(report))


def faults(answer, expected):
    found = {name: check(answer, expected) for name, check in CHECKS.items()}
    return {name: fault for name, fault in found.items() if fault}


def test_a_right_answer_passes(answer, expected):
    assert faults(answer, expected) == {}


@pytest.mark.parametrize("run", ["batch", "alone", "pixels"])
def test_swapped_class_names_are_found(answer, expected, run):
    answer.outputs[run]["classes"][:, :2] = answer.outputs[run]["classes"][:, 1::-1].copy()
    assert run in faults(answer, expected)["class names"]


@pytest.mark.parametrize("run", ["batch", "pixels", "examples"])
def test_the_worst_image_and_its_distance_are_named(answer, expected, run):
    answer.outputs[run]["probabilities"][1, 0] += 2e-4
    answer.outputs[run]["probabilities"][3, 2] -= 5e-3
    fault = faults(answer, expected)["probabilities"]
    assert (
        f"{run} differs from Keras by up to 0.005 (allowed 0.0001) at image 3; beyond it: image(s) 1, 3 of 4" in fault
    )


def test_the_embedding_is_judged_relative_to_its_largest_value(answer, expected):
    largest = np.abs(expected.embedding).max()
    answer.outputs["call"]["embedding"][0] += 0.9e-4 * largest
    assert faults(answer, expected) == {}
    answer.outputs["call"]["embedding"][0] += 0.9e-4 * largest
    assert "call differs" in faults(answer, expected)["embedding"]


def test_nan_is_found(answer, expected):
    answer.outputs["batch"]["probabilities"][2] = np.nan
    found = faults(answer, expected)
    assert "at image 2" in found["probabilities"] and "image(s) 2 sum to" in found["probability sums"]


def test_a_wrong_shape_is_found(answer, expected):
    answer.outputs["batch"]["embedding"] = answer.outputs["batch"]["embedding"][:, :1]
    assert "shape (4, 1)" in faults(answer, expected)["embedding"]


def test_dependence_on_batch_mates_is_found(answer, expected):
    answer.outputs["alone"]["embedding"][1] *= 1.1
    found = faults(answer, expected)
    assert list(found) == ["images alone"] and "alone differs from the same in a batch" in found["images alone"]


def test_a_damaged_image_that_changes_others_or_has_an_answer_is_found(answer, expected):
    damaged = answer.outputs["damaged"]
    damaged["embedding"][2] *= 1.1
    assert "differs from a sound batch" in faults(answer, expected)["damaged images"]
    damaged["embedding"][0] = 1
    assert faults(answer, expected)["damaged images"] == "rows that are no image are not empty"
    damaged["status"][-1] = "ok"
    assert "have the statuses" in faults(answer, expected)["damaged images"]


def test_the_ood_score_may_move_by_one_image_and_no_more(answer, expected):
    answer.outputs["pixels"]["ood_score"][2] += 0.01
    assert faults(answer, expected) == {}
    answer.outputs["pixels"]["ood_score"][2] += 0.01
    assert "differs from NumPy" in faults(answer, expected)["out-of-distribution score"]


def test_sums_and_negative_probabilities_are_found(answer, expected):
    answer.outputs["batch"]["probabilities"][0] = [1.2, -0.2, 0.0]
    answer.outputs["batch"]["probabilities"][1] *= 0.9
    assert faults(answer, expected)["probability sums"].startswith("image(s) 0, 1 sum to")


def test_a_prediction_that_is_not_the_most_likely_is_found(answer, expected):
    answer.outputs["batch"]["prediction"] = np.roll(answer.outputs["batch"]["prediction"], 1)
    assert "most likely is" in faults(answer, expected)["prediction"]


@pytest.mark.parametrize(
    "op", ["AssignVariableOp", "AssignSubVariableOp", "RandomUniform", "StatelessRandomNormalV2", "EagerPyFunc"]
)
def test_state_chance_and_python_are_found(answer, expected, op):
    answer.report["ops"]["pixels"].append(op)
    assert faults(answer, expected) == {"ops": f"signature pixels reaches {op}"}


@pytest.mark.parametrize(
    "spec",
    [{"dtype": "bfloat16", "shape": [None, 8]}, {"dtype": "float32", "shape": []}, {"dtype": "int64", "shape": [3]}],
)
def test_outputs_that_rest_cannot_write_are_found(answer, expected, spec):
    answer.report["outputs"]["serving_default"]["embedding"] = spec
    assert "embedding of serving_default" in faults(answer, expected)["output types"]


def test_our_own_code_in_the_fresh_process_is_found(answer, expected):
    answer.report["modules"].append("bitkeras")
    assert faults(answer, expected) == {"foreign code": "it imported bitkeras"}
