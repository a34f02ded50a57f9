import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from bitkeras.evaluation.calibration import (
    NUM_BINS,
    TEMPERATURES,
    calibration_scores,
    fit_temperature,
    reliability_bins,
    softmax,
)
from bitkeras.evaluation.resampling import Resamples


def drawn(temperature=1.0, num_images=6000, classes=4, seed=0):
    """Logits that are right about their labels once divided by `temperature`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, [num_images, classes])
    labels = (softmax(logits).cumsum(axis=1) < rng.random([num_images, 1])).sum(axis=1)
    return logits * temperature, labels


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_the_temperature_that_was_built_in_is_found(temperature):
    assert fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.06)


def test_no_other_temperature_is_likelier():
    logits, labels = drawn(0.4, 300)
    found = fit_temperature(logits, labels)
    best = sklearn_metrics.log_loss(labels, softmax(logits / found))
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert sklearn_metrics.log_loss(labels, softmax(logits / (found * factor))) > best


def test_logits_that_are_always_or_never_right_give_a_bounded_temperature():
    labels = np.arange(60) % 3
    right = 5 * np.eye(3)[labels]
    # Below a fifth or so nothing is left to gain.
    assert TEMPERATURES[0] <= fit_temperature(right, labels) < 0.3
    assert fit_temperature(np.roll(right, 1, axis=1), labels) == pytest.approx(TEMPERATURES[1], rel=0.01)
    assert math.isfinite(fit_temperature(np.zeros([60, 3]), labels))


def slow_ece(probabilities, labels):
    """Guo et al. 2017, equation 3, image by image; bins are (m / M, (m + 1) / M]."""
    gap = 0.0
    for index in range(NUM_BINS):
        rows = [
            (max(row), int(np.argmax(row)) == label)
            for row, label in zip(probabilities.tolist(), labels)
            if index / NUM_BINS < max(row) <= (index + 1) / NUM_BINS
        ]
        if rows:
            confidence = sum(c for c, _ in rows) / len(rows)
            accuracy = sum(r for _, r in rows) / len(rows)
            gap += len(rows) / len(labels) * abs(accuracy - confidence)
    return gap


def test_scores_are_those_of_loops_and_of_scikit_learn():
    logits, labels = drawn(2.0, 400)
    probabilities = softmax(logits)
    found = {name: score[0] for name, score in calibration_scores(probabilities, labels).items()}
    assert found["ece"] == pytest.approx(slow_ece(probabilities, labels), abs=1e-9)
    assert found["nll"] == pytest.approx(sklearn_metrics.log_loss(labels, probabilities), abs=1e-9)
    one_vs_rest = [sklearn_metrics.brier_score_loss(labels == k, probabilities[:, k]) for k in range(4)]
    assert found["brier"] == pytest.approx(sum(one_vs_rest), abs=1e-9)


def test_resampled_scores_are_those_of_the_images_that_were_drawn():
    logits, labels = drawn(2.0, 60)
    probabilities = softmax(logits)
    resamples = Resamples.of(60, np.arange(60) // 2, num_samples=10, seed=3)
    found = calibration_scores(probabilities, labels, resamples)
    for index, draws in enumerate(resamples.draws):
        taken = np.repeat(np.arange(60), draws[resamples.group])
        assert found["ece"][index] == pytest.approx(slow_ece(probabilities[taken], labels[taken]), abs=1e-9)
        expected = calibration_scores(probabilities[taken], labels[taken])
        assert all(found[name][index] == pytest.approx(expected[name][0], abs=1e-9) for name in found)


def test_the_right_temperature_calibrates_and_the_bins_show_it():
    logits, labels = drawn(0.3)
    before, after = softmax(logits), softmax(logits / fit_temperature(logits, labels))
    assert calibration_scores(after, labels)["ece"][0] < 0.03 < 0.2 < calibration_scores(before, labels)["ece"][0]
    rows = reliability_bins(after, labels)
    assert len(rows) == NUM_BINS and sum(row["count"] for row in rows) == len(labels)
    for row in rows:
        if row["count"]:
            assert row["low"] < row["confidence"] <= row["high"] + 1e-9
            assert abs(row["accuracy"] - row["confidence"]) < 0.05 + 3 / math.sqrt(row["count"])
        else:
            assert row["confidence"] is row["accuracy"] is None
