import json
import warnings

import numpy as np
import pytest
from made_answers import CLASSES, made_answers
from sklearn import metrics as sklearn_metrics

from bitkeras.evaluation.card import clinical_card, focus_of
from bitkeras.evaluation.metrics import bootstrap_interval
from bitkeras.evaluation.subgroups import NOT_RECORDED, OTHERS, age_band, subgroups_of


@pytest.fixture(scope="module")
def answers():
    # Rounded: scores that tie must be treated as scikit-learn does.
    return made_answers(decimals=2)


@pytest.fixture(scope="module")
def facts():
    rng = np.random.default_rng(5)
    return {
        "sex": rng.choice(["female", "male", ""], 300),
        "age": rng.choice(["", "5", "29", "30", "74", "75", "unknown"], 300),
        "dx_type": np.full(300, "histo"),
    }


@pytest.fixture(scope="module")
def card(answers, facts):
    return clinical_card(answers, facts=facts, num_samples=100)


def mean_over_trials(answers, score):
    """`score` of (labels, probabilities [N, K]), by scikit-learn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.mean([score(answers.labels, trial) for trial in answers.probabilities])


def test_overall_scores_are_scikit_learns(card, answers):
    present = np.unique(answers.labels)
    expected = {
        "balanced_accuracy": lambda y, p: sklearn_metrics.balanced_accuracy_score(y, p.argmax(1)),
        "macro_f1": lambda y, p: sklearn_metrics.f1_score(y, p.argmax(1), average="macro", labels=present),
        "accuracy": lambda y, p: sklearn_metrics.accuracy_score(y, p.argmax(1)),
        "roc_auc": lambda y, p: np.mean([sklearn_metrics.roc_auc_score(y == k, p[:, k]) for k in present]),
        "pr_auc": lambda y, p: np.mean([sklearn_metrics.average_precision_score(y == k, p[:, k]) for k in present]),
    }
    assert set(card["overall"]) == set(expected)
    for metric, score in expected.items():
        found = card["overall"][metric]
        assert found["value"] == pytest.approx(mean_over_trials(answers, score), abs=1e-9)
        assert found["std"] == pytest.approx(np.std(found["trials"], ddof=1)) and len(found["trials"]) == 2
        assert found["interval"][0] < found["value"] < found["interval"][1]


def test_scores_of_each_class_are_scikit_learns(card, answers):
    for index, row in enumerate(card["classes"]):
        expected = {
            "sensitivity": lambda y, p, k=index: sklearn_metrics.recall_score(y == k, p.argmax(1) == k),
            "specificity": lambda y, p, k=index: sklearn_metrics.recall_score(y != k, p.argmax(1) != k),
            "precision": lambda y, p, k=index: sklearn_metrics.precision_score(y == k, p.argmax(1) == k),
            "f1": lambda y, p, k=index: sklearn_metrics.f1_score(y == k, p.argmax(1) == k),
            "roc_auc": lambda y, p, k=index: sklearn_metrics.roc_auc_score(y == k, p[:, k]),
            "pr_auc": lambda y, p, k=index: sklearn_metrics.average_precision_score(y == k, p[:, k]),
        }
        assert row["name"] == CLASSES[index] and row["support"] == (answers.labels == index).sum()
        for metric, score in expected.items():
            assert row[metric]["value"] == pytest.approx(mean_over_trials(answers, score), abs=1e-9), metric


def test_confusion_is_scikit_learns_mean_and_agrees_with_the_sensitivities(card, answers):
    def confusion(labels, probabilities):
        return sklearn_metrics.confusion_matrix(labels, probabilities.argmax(1), labels=range(7))

    expected = np.mean([confusion(answers.labels, trial) for trial in answers.probabilities], axis=0)
    np.testing.assert_allclose(card["confusion"], expected, atol=1e-9)
    for index, row in enumerate(card["classes"]):
        assert row["sensitivity"]["value"] == pytest.approx(card["confusion"][index][index] / row["support"])


def test_intervals_are_of_lesions(card, answers):
    expected = bootstrap_interval(
        "macro_f1", answers.labels, answers.probabilities.argmax(2), groups=answers.groups, num_samples=100
    )
    np.testing.assert_allclose(card["overall"]["macro_f1"]["interval"], expected)
    assert (card["num_images"], card["num_groups"], card["num_trials"]) == (300, 150, 2)


def test_operating_points_of_melanoma_are_on_its_roc_curve(card, answers):
    assert card["focus"] == "mel"
    points = {(p["fixed"], p["at"]): p for p in card["operating_points"] if p["class"] == "mel"}
    assert len(points) == 6

    def at_specificity(labels, probabilities):
        rates = sklearn_metrics.roc_curve(labels == 4, probabilities[:, 4], drop_intermediate=False)
        return rates[1][rates[0] <= 0.1 + 1e-9].max()

    point = points["specificity", 0.9]
    assert point["found"] == "sensitivity"
    assert point["score"]["value"] == pytest.approx(mean_over_trials(answers, at_specificity), abs=1e-9)
    taken = answers.probabilities[0][:, 4] >= np.float32(point["threshold"])
    assert taken[answers.labels != 4].mean() <= 0.1
    assert taken[answers.labels == 4].mean() == pytest.approx(point["score"]["trials"][0])


@pytest.mark.parametrize(
    ("names", "focus"), [(("MEL", "NV"), "MEL"), (("nevus", "Melanoma"), "Melanoma"), (("cat", "dog"), None)]
)
def test_the_focus_is_melanoma(names, focus):
    assert focus_of(names) == focus


def test_subgroups_are_scored_like_test_sets_of_their_own(card, answers, facts):
    tables = {table["fact"]: {row["value"]: row for row in table["rows"]} for table in card["subgroups"]}
    assert set(tables) == {"sex", "age band"}
    assert set(tables["sex"]) == {"female", "male", NOT_RECORDED}
    assert list(tables["age band"]) == ["0 to 29", "30 to 44", "60 to 74", "75 and over", NOT_RECORDED]
    women = facts["sex"] == "female"
    row = tables["sex"]["female"]
    predictions = answers.probabilities[:, women].argmax(2)
    expected = [sklearn_metrics.balanced_accuracy_score(answers.labels[women], trial) for trial in predictions]
    assert row["balanced_accuracy"]["value"] == pytest.approx(np.mean(expected), abs=1e-9)
    melanomas = answers.labels[women] == 4
    expected = (predictions[:, melanomas] == 4).mean()
    assert row["focus_sensitivity"]["value"] == pytest.approx(expected, abs=1e-9)
    assert row["num_images"] == women.sum() and row["num_groups"] == len(set(answers.groups[women]))
    assert sum(row["num_images"] for row in tables["sex"].values()) == 300


@pytest.mark.parametrize(
    ("age", "band"),
    [("0", "0 to 29"), ("29.5", "0 to 29"), ("30", "30 to 44"), ("75", "75 and over"), ("-1", NOT_RECORDED)]
    + [("", NOT_RECORDED), ("old", NOT_RECORDED), ("300", NOT_RECORDED), ("nan", NOT_RECORDED)],
)
def test_age_bands(age, band):
    assert age_band(age) == band


def test_many_values_leave_the_commonest_and_a_rest():
    values = np.array([f"site{i}" for i in range(40) for _ in range(i + 1)])
    found = subgroups_of({"site": values, "sex": np.full(len(values), "")})
    assert set(found) == {"site"} and len(set(found["site"])) == 15
    assert (found["site"] == OTHERS).sum() == sum(i + 1 for i in range(26)) and "site39" in found["site"]


def test_the_card_is_plain_json_where_scores_are_not_defined():
    # No images of df at all, one class never predicted, one trial, no lesions.
    answers = made_answers(60, shares=(0.1, 0.1, 0.1, 0.0, 0.1, 0.5, 0.1), trials=1, groups=False)
    answers.probabilities[:, :, 6] = 0
    card = json.loads(json.dumps(clinical_card(answers, num_samples=50), allow_nan=False))
    absent, never = card["classes"][3], card["classes"][6]
    for metric in ("sensitivity", "f1", "roc_auc", "pr_auc"):
        assert absent[metric]["value"] is absent[metric]["interval"] is None
    assert absent["specificity"]["value"] <= 1
    assert never["precision"]["value"] is None and never["sensitivity"]["value"] == 0
    assert card["num_groups"] is None and card["overall"]["accuracy"]["std"] is None
    assert "df" not in card["curves"]["roc"] and "mel" in card["curves"]["roc"]
    assert card["overall"]["roc_auc"]["value"] is not None


def test_calibration_before_and_after_stand_side_by_side():
    answers = made_answers()
    flat = answers.probabilities**0.3
    flat /= flat.sum(axis=-1, keepdims=True)
    card = clinical_card(answers, uncalibrated=flat, temperature=0.3, num_samples=50)
    found = card["calibration"]
    assert found["temperature"] == 0.3 and found["before"]["ece"]["value"] > found["after"]["ece"]["value"] + 0.1
    expected = mean_over_trials(answers, lambda y, p: sklearn_metrics.log_loss(y, p / p.sum(1, keepdims=True)))
    assert found["after"]["nll"]["value"] == pytest.approx(expected, abs=1e-6)
    assert sum(row["count"] for row in found["before"]["bins"]) == 300
