"""The same encoder in other parts."""

import dataclasses

import numpy as np
import pytest
from made_answers import made_answers
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from bitkeras.evaluation.answers import pooled
from bitkeras.evaluation.comparison import RESOLVED
from bitkeras.evaluation.resplit import leakage_differences, unpaired_differences


def test_two_test_parts_are_drawn_anew_independently():
    """Against lesions drawn one after the other and scikit-learn's score of each draw."""
    a, b = made_answers(240, skill=2.5, seed=1, trials=1), made_answers(400, skill=1.5, seed=2, trials=1)
    rng, drawn = np.random.default_rng(5), []
    for held in (a, b):
        lesions, right = np.unique(held.groups), held.probabilities[0].argmax(1)
        of = {lesion: np.flatnonzero(held.groups == lesion) for lesion in lesions}
        sets = [np.concatenate([of[one] for one in rng.choice(lesions, len(lesions))]) for _ in range(600)]
        drawn.append(np.array([accuracy_score(held.labels[images], right[images]) for images in sets]))
    (row,) = unpaired_differences(a, b, metrics=["accuracy"])
    np.testing.assert_allclose(row["interval"], np.quantile(drawn[0] - drawn[1], [0.025, 0.975]), atol=0.015)
    assert row["difference"] == pytest.approx(row["a"]["value"] - row["b"]["value"])
    assert row["resolved"] and row["verdict"] == RESOLVED
    # Even of one and the same part: nothing is known of a second one but that it was drawn as the first was.
    (same,) = unpaired_differences(a, a, metrics=["accuracy"])
    width = np.quantile(drawn[0] - rng.permutation(drawn[0]), 0.975)
    assert same["difference"] == 0 and same["interval"][1] == pytest.approx(width, rel=0.25)


def test_runs_that_differ_do_not_blur_what_parts_are_worth():
    """Three runs of very unlike skill, the same in both parts: their spread is in the scores, not in the difference."""
    runs = [made_answers(300, skill=skill, seed=seed, trials=1) for seed, skill in enumerate((0.3, 1.5, 4.0))]
    held = pooled(runs, "abc")
    (row,) = unpaired_differences(held, held, metrics=["accuracy"])
    low, high = row["a"]["interval"]
    assert row["difference"] == 0 and row["interval"][1] - row["interval"][0] < 0.5 * (high - low)


def test_what_seen_lesions_are_worth():
    """A classifier that knows the lesions it has seen by heart, against lesions drawn one after the other."""
    held = made_answers(400, skill=1.0, seed=3, trials=1)
    lesions = np.unique(held.groups)
    is_seen = np.isin(held.groups, lesions[::5])
    by_heart = np.where(is_seen[:, np.newaxis], np.eye(7)[held.labels], held.probabilities[0])
    held = dataclasses.replace(held, probabilities=by_heart[np.newaxis])
    right = held.probabilities[0].argmax(1)
    of, rng, drawn = {lesion: np.flatnonzero(held.groups == lesion) for lesion in lesions}, np.random.default_rng(1), []
    for _ in range(600):
        images = np.concatenate([of[one] for one in rng.choice(lesions, len(lesions))])
        unseen = images[~is_seen[images]]
        drawn.append(
            accuracy_score(held.labels[images], right[images]) - accuracy_score(held.labels[unseen], right[unseen])
        )
    accuracy, balanced = leakage_differences(held, is_seen, metrics=["accuracy", "balanced_accuracy"])
    np.testing.assert_allclose(accuracy["interval"], np.quantile(drawn, [0.025, 0.975]), atol=0.01)
    everything = balanced_accuracy_score(held.labels, right)
    without = balanced_accuracy_score(held.labels[~is_seen], right[~is_seen])
    assert balanced["unseen"]["value"] == pytest.approx(without)
    assert balanced["difference"] == pytest.approx(everything - without) and balanced["verdict"] == RESOLVED


def test_where_nothing_was_seen_nothing_is_owed_and_where_all_was_nothing_is_known():
    held = made_answers(100)
    (none,) = leakage_differences(held, np.zeros(100, bool), metrics=["accuracy"])
    assert none["difference"] == 0 == none["interval"][0] == none["interval"][1] and not none["resolved"]
    (every,) = leakage_differences(held, np.ones(100, bool), metrics=["balanced_accuracy"])
    assert every["difference"] is None is every["unseen"]["value"] and not every["resolved"]


def test_single_images_count_where_no_lesions_are_known():
    held = dataclasses.replace(made_answers(100), groups=None)
    (row,) = leakage_differences(held, np.arange(100) < 10, metrics=["accuracy"])
    assert row["interval"][0] <= row["difference"] <= row["interval"][1]
