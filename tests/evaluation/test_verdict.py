import json
from pathlib import Path

import pytest

from bitkeras.evaluation.verdict import (
    COMPLETE_COLLAPSE,
    DIMENSIONAL_COLLAPSE,
    HEALTHY,
    NOT_OPTIMISING,
    REMEDIES,
    VERDICTS,
    Verdict,
    verdict,
)

START = {
    **{"epoch": 0, "mean_pairwise_cosine": 0.97, "rankme": 20.0, "num_images": 800.0},
    **{"projector_spread": 0.2, "projector_rankme": 19.0},
}
GOOD = {
    **{"loss": -0.3, "mean_pairwise_cosine": 0.6, "rankme": 100.0, "num_images": 800.0},
    **{"projector_spread": 0.9, "projector_rankme": 60.0},
}


def run(*epochs, start=START):
    """Rows of a run: the start, a good epoch, and then good epochs with some figures of their own."""
    return [start, *({**GOOD, **figures, "epoch": epoch + 1} for epoch, figures in enumerate([{}, *epochs]))]


def losses(values, **figures):
    return [START, *({**GOOD, **figures, "loss": value, "epoch": epoch + 1} for epoch, value in enumerate(values))]


def test_a_good_run_is_healthy_and_says_how_it_stands():
    found = verdict(run({}, {}))
    assert found == Verdict(HEALTHY, "loss -0.3, mean cosine 0.6, RankMe 100", "")


@pytest.mark.parametrize("rows", [[], [START], [{**START, "mean_pairwise_cosine": 1.0, "rankme": 1.0}]])
def test_before_training_nothing_is_judged(rows):
    assert verdict(rows).name == HEALTHY


# The cosine has to be above 0.99 and its distance from 1 below a tenth of the start's 0.03.
@pytest.mark.parametrize(
    ("cosine", "before", "name"),
    [
        (0.9969, 0.97, HEALTHY),
        (0.9971, 0.97, COMPLETE_COLLAPSE),
        (0.9899, 0.5, HEALTHY),
        (0.9901, 0.5, COMPLETE_COLLAPSE),
        # A start that is nearly one point already: only what bfloat16 rounds off is told.
        (0.99998, 0.99998, HEALTHY),
        (0.99999, 0.99998, COMPLETE_COLLAPSE),
        (1.0, 1.0, COMPLETE_COLLAPSE),
    ],
)
def test_one_point_is_told_by_where_it_came_from_and_by_what_rounding_leaves(cosine, before, name):
    found = verdict(run({"mean_pairwise_cosine": cosine}, start={**START, "mean_pairwise_cosine": before}))
    assert found.name == name
    if name != HEALTHY:
        assert f"mean cosine of {cosine:.6f}" in found.evidence
        assert "stopped" in found.remedy


# A spread below 0.1 is no point if it never was twice that; dimensions go below 0.5 and 0.6 of the best, here 0.9.
@pytest.mark.parametrize(
    ("spread", "best", "name"),
    [
        (0.51, 0.9, HEALTHY),
        (0.49, 0.9, DIMENSIONAL_COLLAPSE),
        (0.42, 0.7, HEALTHY),
        (0.41, 0.7, DIMENSIONAL_COLLAPSE),
        (0.101, 0.9, DIMENSIONAL_COLLAPSE),
        (0.099, 0.9, COMPLETE_COLLAPSE),
        (0.09, 0.17, DIMENSIONAL_COLLAPSE),
        (0.09, 0.14, HEALTHY),
    ],
)
def test_projections_are_judged_by_their_std_and_the_best_it_was(spread, best, name):
    start = {**START, "projector_spread": min(best, 0.05)}
    rows = [start, {**GOOD, "epoch": 1, "projector_spread": best}, {**GOOD, "epoch": 2, "projector_spread": spread}]
    found = verdict(rows)
    assert found.name == name
    if name != HEALTHY:
        assert f"std is {spread:.3g}" in found.evidence and f"of the {best:.3g} there were" in found.evidence


@pytest.mark.parametrize(
    ("figures", "name"),
    [
        # A fifth of the best, which is 100.
        ({"rankme": 20.1}, HEALTHY),
        ({"rankme": 19.9}, DIMENSIONAL_COLLAPSE),
        # Below 4 and below half of the best, which is 60.
        ({"projector_rankme": 4.1}, HEALTHY),
        ({"projector_rankme": 3.9}, DIMENSIONAL_COLLAPSE),
        # Below 10 while the std is below 0.8 of the best, which is 0.9.
        ({"projector_rankme": 9.9, "projector_spread": 0.73}, HEALTHY),
        ({"projector_rankme": 9.9, "projector_spread": 0.71}, DIMENSIONAL_COLLAPSE),
        ({"projector_rankme": 10.1, "projector_spread": 0.71}, HEALTHY),
    ],
)
def test_lost_directions_are_a_dimensional_collapse(figures, name):
    found = verdict(run(figures))
    assert found.name == name
    if name != HEALTHY:
        rank = next(iter(figures.values()))
        assert f"RankMe is {rank:.1f}" in found.evidence and "--base_lr" in found.remedy


def test_a_small_network_may_have_few_directions_from_the_start_but_not_fewer_than_three():
    start = {**START, "rankme": 4.0, "projector_rankme": 7.0}
    small = {"projector_rankme": 6.0, "mean_pairwise_cosine": 0.8, "loss": -0.1}
    rows = [start, {**small, "epoch": 1, "rankme": 4.0}, {**small, "epoch": 2, "rankme": 3.1}]
    assert verdict(rows).name == HEALTHY
    assert verdict([*rows, {**small, "epoch": 3, "rankme": 2.9}]).name == DIMENSIONAL_COLLAPSE
    assert verdict([*rows, {**small, "epoch": 3, "rankme": 3.1, "projector_rankme": 3.4}]).name == DIMENSIONAL_COLLAPSE
    assert verdict([*rows, {**small, "epoch": 3, "rankme": 3.1, "projector_rankme": 3.6}]).name == HEALTHY


def test_the_worst_that_anything_speaks_for_is_told_with_all_that_speaks_for_it():
    found = verdict(run({"mean_pairwise_cosine": 0.9999, "projector_spread": 0.01, "rankme": 2.0}))
    assert found.name == COMPLETE_COLLAPSE and "mean cosine" in found.evidence and "std" in found.evidence
    found = verdict(run({"rankme": 2.0, "projector_spread": 0.3, "projector_rankme": 4.0}))
    assert found.name == DIMENSIONAL_COLLAPSE
    assert [word in found.evidence for word in ("features' RankMe", "std", "projections' RankMe")] == [True] * 3


@pytest.mark.parametrize(
    ("values", "name"),
    [
        # Four epochs are too few, and one good epoch of the last three is enough.
        ([0.0, 0.0, 0.0, 0.0], HEALTHY),
        ([0.0, 0.0, 0.0, 0.0, 0.0], NOT_OPTIMISING),
        ([0.0, 0.0, 0.0, 0.0, -0.009], NOT_OPTIMISING),
        ([0.0, 0.0, 0.0, 0.0, -0.011], HEALTHY),
        ([0.0, 0.0, -0.011, 0.0, 0.0], HEALTHY),
        ([0.0, -0.011, 0.0, 0.0, 0.0], NOT_OPTIMISING),
        # Where the loss is in tens a hundredth of it is wanted.
        ([25.0, 25.0, 25.0, 24.9, 24.8], NOT_OPTIMISING),
        ([25.0, 25.0, 25.0, 24.9, 24.7], HEALTHY),
        # Half of what was gained lost again in three epochs, or in two.
        ([0.0, -0.8, -0.39, -0.39, -0.39], NOT_OPTIMISING),
        ([0.0, -0.8, -0.41, -0.39, -0.39], HEALTHY),
        ([0.0, -0.5, -0.8, -0.39, -0.39], HEALTHY),
        # At its end a run stands still.
        ([0.0, -0.3, -0.7, *[-0.7] * 20], HEALTHY),
    ],
)
def test_a_loss_that_does_not_fall_is_told(values, name):
    found = verdict(losses(values))
    assert found.name == name
    if name != HEALTHY:
        assert f"{min(values[-3:]):.4f}" in found.evidence and "view pairs" in found.remedy


def test_the_warm_up_is_waited_for():
    assert verdict(losses([0.0] * 14), warmup_epochs=10).name == HEALTHY
    assert verdict(losses([0.0] * 15), warmup_epochs=10).name == NOT_OPTIMISING


@pytest.mark.parametrize("collapsed", [COMPLETE_COLLAPSE, DIMENSIONAL_COLLAPSE])
def test_the_loss_of_a_collapse_is_no_yardstick(collapsed):
    # Taken back after a collapse, a run has a worse loss and is better off.
    rows = losses([-0.1, -0.2, -0.99, -0.99, -0.2, -0.25, -0.3, -0.3])
    assert verdict(rows).name == NOT_OPTIMISING
    rows[3] |= {"verdict": collapsed}
    rows[4] |= {"verdict": collapsed}
    assert verdict(rows).name == HEALTHY


def test_what_was_not_measured_is_not_judged():
    assert verdict([{"epoch": epoch + 1, "loss": 2.0 - epoch} for epoch in range(9)]).name == HEALTHY
    # Without an epoch before training the absolute limits are left.
    rows = run({"mean_pairwise_cosine": 0.995})[1:]
    assert verdict(rows).name == COMPLETE_COLLAPSE
    assert verdict(run({})[1:]).name == HEALTHY


def test_codes_grow_with_the_harm():
    names = [HEALTHY, NOT_OPTIMISING, DIMENSIONAL_COLLAPSE, COMPLETE_COLLAPSE]
    assert [Verdict(name, "", "").code for name in names] == [0, 1, 2, 3]
    assert set(REMEDIES) == set(VERDICTS)


def test_no_epoch_of_the_recorded_run_is_flagged():
    (recorded,) = (Path(__file__).parents[2] / "docs" / "results" / "first_run").glob("metrics.jsonl")
    rows = [json.loads(line) for line in recorded.read_text().splitlines()]
    assert len(rows) == 61 and rows[0]["mean_pairwise_cosine"] > 0.94
    assert {verdict(rows[: epoch + 1]).name for epoch in range(len(rows))} == {HEALTHY}
