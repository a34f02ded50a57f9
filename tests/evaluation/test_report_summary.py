import pytest
from made_content import made_content, score

from bitkeras.evaluation.leader import lead_over, leading_arm
from bitkeras.evaluation.report_summary import listed, summarise


def arm(name, value, half=None, *, baseline=False, **more):
    scores = {"balanced_accuracy": score(value, half)}
    return {"id": name.lower(), "name": name, "baseline": baseline, "scores": scores, **more}


def told(arms, **more):
    return dict(summarise({"title": "t", "kind": "probe", "arms": arms, **more}))


def difference(a, b, low, high):
    resolved = not low <= 0 <= high
    row = {"a": a, "b": b, "metric": "balanced_accuracy", "difference": (low + high) / 2, "interval": [low, high]}
    return {**row, "resolved": resolved, "verdict": "resolved" if resolved else "not resolved on this test set"}


A, B, C = arm("A", 0.6, 0.05, num_runs=3), arm("B", 0.57, 0.05), arm("C", 0.4, 0.05)
PIXELS = arm("pixels", 0.3, 0.05, baseline=True)


def test_a_paired_difference_resolves_what_intervals_do_not():
    assert told([B, A])["Lead"] == (
        "Its lead of 0.030 over B, the next best, is not resolved on this test set: their intervals overlap, so it may "
        "be luck."
    )
    expected = "Its lead of 0.030 over B, the next best, is {} on this test set (paired 95 % interval {})."
    resolved = told([B, A], differences=[difference("a", "b", 0.01, 0.05)])["Lead"]
    assert resolved == expected.format("resolved", "+0.010 to +0.050")
    # Told the other way round, it is the same lead.
    mirrored = told([B, A], differences=[difference("b", "a", -0.05, -0.01)])["Lead"]
    assert mirrored == resolved
    unresolved = told([B, A], differences=[difference("a", "b", -0.01, 0.07)])["Lead"]
    assert unresolved == expected.format("not resolved", "−0.010 to +0.070")
    # Another metric says nothing about this one.
    other = {**difference("a", "b", 0.01, 0.05), "metric": "macro_f1"}
    assert "overlap" in told([B, A], differences=[other])["Lead"]


def test_the_leader_and_the_others():
    found = told([C, PIXELS, B, A], differences=[difference("a", "b", 0.01, 0.05)])
    assert found["Result"] == ("A leads with a balanced accuracy of 0.600 (95 % interval 0.550 to 0.650, 3 seeds).")
    assert found["Lead"].endswith("Its lead over C is resolved.")
    assert found["Baselines"] == "Its lead over pixels is resolved on this test set."


def test_one_encoder_has_no_lead_but_over_baselines():
    close = arm("network before", 0.58, 0.05, baseline=True)
    found = told([A, PIXELS, close])
    assert found["Result"].startswith("A reaches a balanced accuracy of 0.600") and "Lead" not in found
    assert found["Baselines"] == (
        "Its lead over pixels is resolved on this test set. Its lead over network before is not resolved on this test "
        "set, so it may be luck."
    )


def test_an_encoder_behind_a_baseline():
    found = told([C, arm("pixels", 0.5, 0.05, baseline=True), arm("level", 0.4, baseline=True)])
    assert found["Result"].startswith("C reaches")
    assert found["Baselines"] == "It does not beat pixels (0.500) and level (0.400)."


def test_the_best_encoder_does_not_lead_where_a_baseline_does():
    assert told([A, C, arm("pixels", 0.7, baseline=True)])["Result"].startswith("A is the best encoder, with a")


def test_without_intervals_nothing_is_judged():
    found = told([arm("A", 0.6), arm("B", 0.5), arm("p", 0.3, baseline=True)], chance_level=0.2)
    assert found["Result"] == "A leads with a balanced accuracy of 0.600."
    assert found["Lead"] == "Its lead of 0.100 over B, the next best, cannot be judged: there is no interval."
    assert found["Baselines"] == "It scores higher than p, for which there is no interval."
    assert found["Chance"] == "Chance is 0.200."


def test_level_encoders():
    assert told([arm("A", 0.6, 0.1), arm("B", 0.6, 0.1)])["Lead"] == "B scores the same, so nobody leads."


@pytest.mark.parametrize(("chance", "where"), [(0.2, "above it"), (0.55, "not clear of it"), (0.9, "below it")])
def test_chance(chance, where):
    assert told([A], chance_level=chance)["Chance"] == f"Chance is {chance:.3f}; the interval of A is {where}."


def test_leakage():
    assert "Leakage" not in told([A])
    assert told([A], leakage_share=0.387)["Leakage"].startswith("38.7% of the test images show a lesion")
    assert told([A], leakage_share=0.0)["Leakage"].startswith("No test image has a known sister photo")
    assert "nothing is known" in told([A], leakage_share=None)["Leakage"]


def test_collapse_and_retention():
    bad = {"state": "complete collapse", "evidence": "a mean cosine of 0.999", "remedy": "lower --base_lr"}
    kept = {"stages": {"overall": {"cka": 0.913}}, "num_images": 5}
    lost = {"stages": {"overall": {"cka": None}}, "num_images": 5}
    good = {"state": "healthy", "evidence": "", "remedy": ""}
    found = told([{**A, "verdict": good, "retention": kept}, {**B, "verdict": bad, "retention": lost}, C])
    assert found["Training"] == (
        "B ended with complete collapse: a mean cosine of 0.999. A stayed healthy: no sign of collapse."
    )
    assert found["Swap"].endswith("was: A 0.91 and B no number.")


def test_of_nothing_nothing_is_said():
    assert summarise({"title": "t", "arms": []}) == []
    assert told([PIXELS])["Result"].startswith("pixels reaches")
    assert leading_arm({"arms": [{"id": "a", "name": "A", "scores": {}}]}) is None


def test_all_of_a_study_is_told():
    topics = [topic for topic, _ in summarise(made_content())]
    assert topics == ["Result", "Lead", "Baselines", "Chance", "Test part", "Leakage", "Training", "Swap"]


def test_verdicts_of_leads_are_those_of_the_paired_differences():
    """What `comparison.paired_differences` calls resolved is what the summary says."""
    content = made_content()
    leader = leading_arm(content)
    by_id = {each["id"]: each for each in content["arms"]}
    judged = [
        row for row in content["differences"] if row["metric"] == "balanced_accuracy" and row["a"] == leader["id"]
    ]
    assert len(judged) == 5
    for row in judged:
        assert (lead_over(content, leader, by_id[row["b"]]).state == "resolved") == row["resolved"]


def test_lists():
    assert [listed(list(names)) for names in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]
