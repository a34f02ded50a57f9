import warnings

import numpy as np
import pytest
from reference import evaluation_reference as reference
from sklearn import metrics as sklearn_metrics

from bitkeras.errors import UserError
from bitkeras.evaluation.metrics import (
    METRICS,
    balanced_accuracy,
    bootstrap_difference,
    bootstrap_interval,
    chance_level,
    score_row,
)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def guesses(count=200, classes=5, right=0.6, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    return labels, np.where(rng.random(count) < right, labels, rng.integers(0, classes, count))


CASES = {
    "all classes": guesses(),
    "a predicted class that no label has": (np.array([0, 0, 2, 2]), np.array([0, 1, 2, 1])),
    "a class never predicted": (np.array([0, 1, 2, 2, 4]), np.array([0, 0, 2, 2, 2])),
    "one class": (np.zeros(5, int), np.array([0, 0, 0, 1, 0])),
    "all wrong": (np.array([0, 1]), np.array([1, 0])),
    "one image": (np.array([3]), np.array([3])),
}


@pytest.mark.parametrize("case", CASES)
def test_scores_are_scikit_learns(case):
    labels, predictions = CASES[case]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Classes that no label has count neither for recall nor for F1; as predictions they are only wrong.
        expected = {
            "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, predictions),
            "macro_f1": sklearn_metrics.f1_score(labels, predictions, labels=np.unique(labels), average="macro"),
            "accuracy": sklearn_metrics.accuracy_score(labels, predictions),
        }
    assert set(METRICS) == set(expected)
    for name, value in expected.items():
        assert METRICS[name](labels, predictions) == pytest.approx(value, abs=1e-9)
        assert reference.METRICS[name](labels.tolist(), predictions.tolist()) == pytest.approx(value, abs=1e-9)


def test_counts_by_hand():
    labels, predictions = [0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 2]
    assert METRICS["accuracy"](labels, predictions) == pytest.approx(4 / 6)
    assert METRICS["balanced_accuracy"](labels, predictions) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert METRICS["macro_f1"](labels, predictions) == pytest.approx((6 / 7 + 2 / 4) / 2)


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_chance_is_what_naming_one_class_scores(classes):
    labels = np.repeat(np.arange(classes), np.arange(1, classes + 1))
    assert METRICS["balanced_accuracy"](labels, np.zeros_like(labels)) == pytest.approx(chance_level(classes))


@pytest.mark.parametrize("metric", list(METRICS))
@pytest.mark.parametrize("grouped", [False, True])
def test_interval_is_that_of_a_loop_over_the_same_draws(metric, grouped):
    # 30 images of 4 classes: many resamples miss one.
    labels, predictions = guesses(30, 4)
    names = [f"lesion{i // 3}" for i in range(30)] if grouped else None
    low, high = bootstrap_interval(metric, labels, predictions, groups=names, num_samples=80, seed=5)
    groups = names or list(range(30))
    count = len(set(groups))
    draws = np.random.default_rng(5).multinomial(count, [1 / count] * count, 80)
    scores = reference.resampled_scores(metric, labels.tolist(), predictions.tolist(), groups, draws)
    np.testing.assert_allclose([low, high], np.quantile(scores, [0.025, 0.975]), atol=1e-9)


def test_interval_of_accuracy_is_the_binomial_one():
    rng = np.random.default_rng(0)
    labels = np.zeros(900, int)
    predictions = (rng.permutation(900) < 270).astype(int)
    low, high = bootstrap_interval("accuracy", labels, predictions, num_samples=4000)
    half = 1.96 * np.sqrt(0.7 * 0.3 / 900)
    np.testing.assert_allclose([low, high], [0.7 - half, 0.7 + half], atol=0.005)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for seed in range(200):
        labels, predictions = guesses(150, 3, right=0.6, seed=seed)
        # A guess is right one time in three: 0.6 + 0.4 / 3.
        low, high = bootstrap_interval("balanced_accuracy", labels, predictions, num_samples=200, seed=seed)
        covered += low <= 0.6 + 0.4 / 3 <= high
    # 95 % of 200, with four standard deviations of the count and some optimism of the percentile method.
    assert 174 <= covered <= 200


def test_interval_shrinks_with_the_root_of_the_count():
    widths = [np.ptp(bootstrap_interval("balanced_accuracy", *guesses(count))) for count in (200, 3200)]
    assert 3 < widths[0] / widths[1] < 5.3


def test_photos_that_agree_widen_the_interval_of_lesions():
    labels, predictions = guesses(100, 3)
    four_times = np.repeat(labels, 4), np.repeat(predictions, 4)
    lesions = np.repeat(np.arange(100), 4)
    by_image = np.ptp(bootstrap_interval("balanced_accuracy", *four_times))
    by_lesion = np.ptp(bootstrap_interval("balanced_accuracy", *four_times, groups=lesions))
    assert by_lesion / by_image == pytest.approx(2, rel=0.2)
    # Copies tell nothing new: the same draws of the same lesions give the interval of single photos.
    single = bootstrap_interval("balanced_accuracy", labels, predictions)
    np.testing.assert_allclose(bootstrap_interval("balanced_accuracy", *four_times, groups=lesions), single, atol=1e-9)


def test_order_and_names_of_groups_do_not_matter():
    labels, predictions = guesses(60, 3)
    lesions = np.arange(60) // 2
    order = np.random.default_rng(1).permutation(60)
    expected = bootstrap_interval("macro_f1", labels, predictions, groups=lesions)
    names = np.array([f"lesion{i:03d}" for i in lesions])
    assert bootstrap_interval("macro_f1", labels[order], predictions[order], groups=names[order]) == expected


def test_interval_of_trials_is_that_of_their_mean():
    labels, first = guesses(50, 3)
    second = np.roll(first, 1)
    seeds = {"num_samples": 60, "seed": 2}
    draws = np.random.default_rng(2).multinomial(50, [1 / 50] * 50, 60)
    scores = [
        reference.resampled_scores("balanced_accuracy", labels.tolist(), p.tolist(), list(range(50)), draws)
        for p in (first, second)
    ]
    found = bootstrap_interval("balanced_accuracy", labels, np.stack([first, second]), **seeds)
    np.testing.assert_allclose(found, np.quantile(np.mean(scores, axis=0), [0.025, 0.975]), atol=1e-9)


def test_level_and_seed():
    labels, predictions = guesses()
    narrow = bootstrap_interval("balanced_accuracy", labels, predictions, level=0.5)
    wide = bootstrap_interval("balanced_accuracy", labels, predictions, level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert bootstrap_interval("balanced_accuracy", labels, predictions, level=0.5) == narrow
    assert bootstrap_interval("balanced_accuracy", labels, predictions, level=0.5, seed=1) != narrow


def test_unknown_metric_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match="no metric auc; known are accuracy, balanced_accuracy, macro_f1"):
        bootstrap_interval("auc", *guesses())


def test_row_of_the_table():
    labels, first = guesses(80, 3)
    predictions = np.stack([first, np.roll(first, 1), labels])
    row = score_row("an encoder", labels, predictions, groups=np.arange(80) // 2, seed=3)
    assert row.pop("name") == "an encoder"
    assert row.pop("interval") == list(
        bootstrap_interval("balanced_accuracy", labels, predictions, groups=np.arange(80) // 2, seed=3)
    )
    for metric, score in reference.METRICS.items():
        trials = [score(labels.tolist(), trial.tolist()) for trial in predictions]
        assert row.pop(metric) == pytest.approx(np.mean(trials))
        assert row.pop(f"{metric}_std") == pytest.approx(np.std(trials, ddof=1))
    assert not row


def test_row_of_a_single_prediction_has_no_deviation():
    row = score_row("majority", *guesses())
    assert row["accuracy_std"] is row["macro_f1_std"] is row["balanced_accuracy_std"] is None
    assert 0 <= row["interval"][0] <= row["balanced_accuracy"] <= row["interval"][1] <= 1


def test_a_paired_difference_is_narrower_than_two_intervals_and_tells_who_is_ahead():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 600)
    groups = np.arange(600) // 2
    # Both wrong on the same hard third; the better one right on a few more.
    hard = rng.random(600) < 0.33
    other = np.where(hard, (labels + 1) % 3, labels)
    better = np.where(hard & (rng.random(600) < 0.2), labels, other)
    low, high = bootstrap_difference("balanced_accuracy", labels, better, other, groups=groups)
    gain = balanced_accuracy(labels, better) - balanced_accuracy(labels, other)
    assert 0 < low < gain < high
    intervals = [bootstrap_interval("balanced_accuracy", labels, rows, groups=groups) for rows in (better, other)]
    assert high - low < 0.6 * min(end - start for start, end in intervals)
    assert bootstrap_difference("balanced_accuracy", labels, other, better, groups=groups) == (-high, -low)
    assert bootstrap_difference("balanced_accuracy", labels, other, other, groups=groups) == (0.0, 0.0)
