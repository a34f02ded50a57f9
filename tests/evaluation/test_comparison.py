import dataclasses

import numpy as np
import pytest
from made_answers import made_answers

from bitkeras.errors import UserError
from bitkeras.evaluation.answers import load_answers, pooled
from bitkeras.evaluation.comparison import (
    NOT_RESOLVED,
    OVERALL_METRICS,
    RESOLVED,
    paired_differences,
    sample_scores,
)
from bitkeras.evaluation.metrics import METRICS, bootstrap_difference


def rows_of(answers, pairs, **options):
    return {(row["a"], row["b"], row["metric"]): row for row in paired_differences(answers, pairs, **options)}


def test_differences_of_counts_are_those_of_the_plain_bootstrap():
    good, poor = made_answers(skill=2.5, seed=1), made_answers(skill=1.5, seed=2)
    rows = rows_of({"good": good, "poor": poor}, [("good", "poor")], num_samples=200)
    for metric in METRICS:
        row = rows["good", "poor", metric]
        predictions = [held.probabilities.argmax(2) for held in (good, poor)]
        scores = [np.mean([METRICS[metric](good.labels, trial) for trial in trials]) for trials in predictions]
        assert row["difference"] == pytest.approx(scores[0] - scores[1], abs=1e-9)
        expected = bootstrap_difference(metric, good.labels, *predictions, groups=good.groups, num_samples=200)
        np.testing.assert_allclose(row["interval"], expected, atol=1e-9)


def test_a_clear_lead_is_resolved_and_a_copy_is_not():
    answers = {
        "good": made_answers(skill=3, seed=1),
        "copy": made_answers(skill=3, seed=1),
        "poor": made_answers(skill=0.5),
    }
    rows = rows_of(answers, [("good", "poor"), ("poor", "good"), ("good", "copy")], num_samples=200)
    for metric in OVERALL_METRICS:
        lead, mirror = rows["good", "poor", metric], rows["poor", "good", metric]
        assert lead["resolved"] and lead["verdict"] == RESOLVED and lead["interval"][0] > 0
        np.testing.assert_allclose(mirror["interval"], [-bound for bound in lead["interval"][::-1]])
        same = rows["good", "copy", metric]
        assert same["difference"] == 0 == same["interval"][0] == same["interval"][1]
        assert not same["resolved"] and same["verdict"] == NOT_RESOLVED


def test_verdicts_on_encoders_of_equal_skill_are_wrong_about_as_often_as_they_say():
    def verdict(seed):
        answers = {"a": made_answers(seed=2 * seed, trials=1), "b": made_answers(seed=2 * seed + 1, trials=1)}
        return rows_of(answers, [("a", "b")], metrics=["accuracy"], num_samples=200)["a", "b", "accuracy"]["resolved"]

    # 5 % of 60 are 3; more than 9 would happen once in some 1,500 times.
    assert sum(verdict(seed) for seed in range(60)) <= 9


def test_images_are_matched_by_their_names():
    a, b = made_answers(seed=1), made_answers(skill=1, seed=2)
    order = np.random.default_rng(0).permutation(300)
    shuffled = dataclasses.replace(
        b,
        image_ids=b.image_ids[order],
        labels=b.labels[order],
        groups=b.groups[order],
        probabilities=b.probabilities[:, order],
    )
    expected, found = (paired_differences({"a": a, "b": held}, [("a", "b")], num_samples=50) for held in (b, shuffled))
    assert found == expected


def test_other_images_labels_and_classes_are_refused():
    a = made_answers(100)
    moved = dataclasses.replace(a, image_ids=np.roll(np.append(a.image_ids[1:], "another"), 0))
    with pytest.raises(UserError, match="a and b were tested on different images .100 and 100, 99 of them the same."):
        paired_differences({"a": a, "b": moved}, [("a", "b")])
    relabelled = dataclasses.replace(a, labels=np.roll(a.labels, 1))
    with pytest.raises(UserError, match="different labels"):
        paired_differences({"a": a, "b": relabelled}, [("a", "b")])
    renamed = dataclasses.replace(a, class_names=tuple("abcdefg"))
    with pytest.raises(UserError, match="know different classes"):
        paired_differences({"a": a, "b": renamed}, [("a", "b")])


def test_several_runs_count_as_runs():
    runs = [made_answers(skill=skill, seed=seed) for seed, skill in enumerate((1.0, 2.0, 3.0))]
    together = pooled(runs, ["seed 0", "seed 1", "seed 2"])
    assert together.probabilities.shape[0] == 6 and together.runs.tolist() == [0, 0, 1, 1, 2, 2]
    score = sample_scores(together)["balanced_accuracy"].score()
    alone = [sample_scores(run)["balanced_accuracy"].score() for run in runs]
    np.testing.assert_allclose(score["trials"], [one["value"] for one in alone])
    assert score["value"] == pytest.approx(np.mean(score["trials"]))
    assert score["std"] == pytest.approx(np.std(score["trials"], ddof=1))
    # Runs this unlike make the interval wide; that of the test images alone is not.
    width = score["interval"][1] - score["interval"][0]
    assert width > 2 * max(one["interval"][1] - one["interval"][0] for one in alone)


def test_answers_survive_the_disk(tmp_path):
    answers = pooled([made_answers(50), made_answers(50, seed=1)], ["one", "two"])
    answers.save(tmp_path / "predictions.npz")
    found = load_answers(tmp_path / "predictions.npz")
    for field in dataclasses.fields(answers):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(answers, field.name))
    without = made_answers(50, groups=False)
    without.save(tmp_path / "without.npz")
    assert load_answers(tmp_path / "without.npz").groups is None


def test_what_holds_no_answers_is_told(tmp_path):
    with pytest.raises(UserError, match="There is no .*; run `bitkeras probe` again"):
        load_answers(tmp_path / "predictions.npz")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut")
    np.savez(tmp_path / "other.npz", features=np.zeros(3))
    for name in ("cut.npz", "other.npz"):
        with pytest.raises(UserError, match="holds no answers of a probe"):
            load_answers(tmp_path / name)


def test_lesions_that_one_of_the_two_knows_are_drawn_whole():
    a, b = made_answers(seed=1), made_answers(skill=1, seed=2)
    blind = dataclasses.replace(a, groups=None)
    expected = paired_differences({"a": a, "b": b}, [("a", "b")], num_samples=50)
    assert paired_differences({"a": blind, "b": b}, [("a", "b")], num_samples=50) == expected
