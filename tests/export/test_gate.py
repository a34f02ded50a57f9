"""The lines of the gate, and TFX's layout."""

from __future__ import annotations

import json
import os

import pytest

from bitkeras.errors import UserError
from export.artifacts import Execution
from export.gate import Floor, judge_difference, judge_floors, judge_limit, parse_floors


@pytest.fixture(scope="module")
def card():
    def score(value):
        return {"value": value}

    mel = {"name": "mel", "sensitivity": score(0.55), "precision": score(None)}
    names = ["mel", "b.c-c"]
    overall = {"balanced_accuracy": score(0.45), "macro_f1": score(0.4)}
    return {"class_names": names, "overall": overall, "classes": [mel, {"name": "b.c-c", "sensitivity": score(0.2)}]}


@pytest.mark.parametrize("class_names", [["mel", "b.c-c"], None])
def test_floors_are_read(class_names):
    assert parse_floors("", class_names) == []
    assert parse_floors("balanced_accuracy=0.4, mel.sensitivity=.6,b.c-c.f1=1", class_names) == [
        Floor("balanced_accuracy", None, 0.4),
        Floor("sensitivity", "mel", 0.6),
        Floor("f1", "b.c-c", 1.0),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("balanced_accuracy", "the part 'balanced_accuracy'; each is METRIC=VALUE, where METRIC is balanced_accuracy"),
        (
            "auc=0.5",
            "names 'auc', which is no score of this model; it has balanced_accuracy, .*, pr_auc, or CLASS.METRIC",
        ),
        ("nv.sensitivity=0.5", "names 'nv.sensitivity'"),
        ("mel.balanced_accuracy=0.5", "names 'mel.balanced_accuracy'"),
        ("macro_f1=50", "a score is a fraction from 0 to 1"),
        ("macro_f1=high", "a score is a fraction from 0 to 1"),
    ],
)
def test_floors_that_mean_nothing_are_told(card, text, message):
    with pytest.raises(UserError, match=message):
        parse_floors(text, card["class_names"])


@pytest.mark.parametrize("text", ["balanced_accuracy", "auc=0.5", "mel.balanced_accuracy=0.5", "macro_f1=50"])
def test_all_but_the_classes_is_told_without_a_model(text):
    assert parse_floors("nv.sensitivity=0.5") == [Floor("sensitivity", "nv", 0.5)]
    with pytest.raises(UserError, match="--floors"):
        parse_floors(text)


def test_a_floor_is_met_or_not_and_the_line_has_both_numbers(card):
    floors = parse_floors("balanced_accuracy=0.45,mel.sensitivity=0.6,mel.precision=0", card["class_names"])
    met, missed, undefined = judge_floors(card, floors)
    assert met.passed and met.line == "balanced_accuracy is 0.450, at least 0.45 wanted"
    assert not missed.passed and missed.line == "mel.sensitivity is 0.550, at least 0.6 wanted"
    assert not undefined.passed and "is not defined on this test part" in undefined.line


@pytest.mark.parametrize(
    ("interval", "passed"), [([-0.05, -0.01], False), ([-0.05, 0.01], True), ([0.01, 0.02], True), (None, False)]
)
def test_only_a_resolved_loss_is_refused(interval, passed):
    row = {"metric": "balanced_accuracy", "difference": -0.02, "interval": interval}
    assert judge_difference(row, 3).passed is passed and "live version 3" in judge_difference(row, 3).line


def test_limits():
    assert judge_limit("size", 20.0, "MB", 20).passed and not judge_limit("size", 20.1, "MB", 20).passed
    assert judge_limit("size", 20.1, "MB", 20).line == "size is 20.1 MB, at most 20 MB wanted"


def test_executions_are_numbered_and_lie_as_tfx_lays_them(tmp_path):
    first, second = Execution(tmp_path), Execution(tmp_path)
    assert (first.number, second.number) == (1, 2)
    assert second.model == tmp_path / "Trainer" / "model" / "2" / "Format-Serving"
    second.bless(False, {"lines": ["size is too much"]})
    second.bless_infra(True, {})
    first.record_pushed(tmp_path / "served" / "7")
    blessing = tmp_path / "Evaluator" / "blessing" / "2"
    assert sorted(os.listdir(blessing)) == ["NOT_BLESSED", "facts.json"] and not (blessing / "NOT_BLESSED").read_bytes()
    assert (tmp_path / "InfraValidator" / "blessing" / "2" / "INFRA_BLESSED").is_file()
    pushed = json.loads((tmp_path / "Pusher" / "pushed_model" / "1" / "pushed.json").read_text())
    assert (pushed["pushed"], pushed["pushed_version"]) == (1, "7")
