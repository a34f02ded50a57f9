import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from bitkeras.evaluation.ranking import FOUND, OPERATING_POINTS, curves, rank, rank_scores, threshold_at
from bitkeras.evaluation.resampling import Resamples


def scores_of(case):
    rng = np.random.default_rng(0)
    positive = rng.random(120) < 0.2
    return {
        "distinct": (positive, rng.normal(0, 1, 120) + positive),
        "many ties": (positive, np.round(rng.normal(0, 1, 120) + positive)),
        "all the same": (positive, np.full(120, 0.25)),
        "perfect": (positive, positive + 0.1 * rng.random(120)),
        "the wrong way round": (positive, -positive.astype(float)),
        "one positive": (np.arange(30) == 4, rng.random(30)),
    }[case]


CASES = ("distinct", "many ties", "all the same", "perfect", "the wrong way round", "one positive")


def roc_points(positive, scores):
    rates = sklearn_metrics.roc_curve(positive, scores, drop_intermediate=False)
    return rates[0], rates[1], rates[2]


@pytest.mark.parametrize("case", CASES)
def test_areas_and_operating_points_are_scikit_learns(case):
    positive, scores = scores_of(case)
    found = rank_scores(rank(positive, scores))
    assert found["roc_auc"][0] == pytest.approx(sklearn_metrics.roc_auc_score(positive, scores), abs=1e-9)
    assert found["pr_auc"][0] == pytest.approx(sklearn_metrics.average_precision_score(positive, scores), abs=1e-9)
    false_rates, true_rates, _ = roc_points(positive, scores)
    for at in OPERATING_POINTS:
        allowed = false_rates <= 1 - at + 1e-9
        assert found["specificity", at][0] == pytest.approx(true_rates[allowed].max(), abs=1e-9)
        reached = true_rates >= at - 1e-9
        assert found["sensitivity", at][0] == pytest.approx((1 - false_rates[reached]).max(), abs=1e-9)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("fixed", FOUND)
def test_the_threshold_gives_what_it_promises(case, fixed):
    positive, scores = scores_of(case)
    ranking = rank(positive, scores)
    threshold = threshold_at(ranking, fixed=fixed, at=0.9)
    taken = np.zeros(len(scores), bool) if threshold is None else scores >= threshold
    rates = {"sensitivity": taken[positive].mean(), "specificity": 1 - taken[~positive].mean()}
    assert rates[fixed] >= 0.9 - 1e-9
    assert rates[FOUND[fixed]] == pytest.approx(rank_scores(ranking)[fixed, 0.9][0], abs=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_resampled_areas_are_those_of_images_taken_as_often_as_they_were_drawn(case, monkeypatch):
    positive, scores = scores_of(case)
    resamples = Resamples.of(len(scores), np.arange(len(scores)) // 3, num_samples=25, seed=1)
    # A few resamples at a time, as with a large test set.
    monkeypatch.setattr("bitkeras.evaluation.resampling._BLOCK_ENTRIES", 7 * len(scores))
    found = rank_scores(rank(positive, scores), resamples)
    for index, draws in enumerate(resamples.draws):
        taken = np.repeat(np.arange(len(scores)), draws[resamples.group])
        if positive[taken].any() and not positive[taken].all():
            expected = rank_scores(rank(positive[taken], scores[taken]))
            area = sklearn_metrics.roc_auc_score(positive[taken], scores[taken])
            assert found["roc_auc"][index] == pytest.approx(area, abs=1e-9)
            for name in found:
                assert found[name][index] == pytest.approx(expected[name][0], abs=1e-9)
        else:
            assert all(np.isnan(found[name][index]) for name in found)


@pytest.mark.parametrize("kind", [True, False])
def test_one_kind_of_images_has_no_scores(kind):
    ranking = rank(np.full(9, kind), np.arange(9.0))
    assert all(np.isnan(score).all() for score in rank_scores(ranking).values())
    assert curves(ranking) == ({}, {})


def test_curves_are_on_scikit_learns_and_keep_its_area():
    rng = np.random.default_rng(0)
    positive = rng.random(5000) < 0.02
    scores = rng.normal(0, 1, 5000) + 1.5 * positive
    roc, pr = curves(rank(positive, scores))
    false_rates, true_rates, _ = roc_points(positive, scores)
    points = set(zip(np.round(false_rates, 9), np.round(true_rates, 9)))
    drawn = list(zip(np.round(roc["false_positive_rate"], 9), np.round(roc["sensitivity"], 9)))
    assert set(drawn) <= points and len(drawn) <= 100
    assert drawn[0] == (0, 0) and drawn[-1] == (1, 1)
    area = np.trapz(roc["sensitivity"], roc["false_positive_rate"])
    assert area == pytest.approx(sklearn_metrics.roc_auc_score(positive, scores), abs=0.005)
    precisions, recalls, _ = sklearn_metrics.precision_recall_curve(positive, scores)
    points = set(zip(np.round(recalls, 9), np.round(precisions, 9)))
    assert set(zip(np.round(pr["sensitivity"], 9), np.round(pr["precision"], 9))) <= points
