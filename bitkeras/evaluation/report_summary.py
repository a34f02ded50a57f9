"""What a report found, in plain sentences, before any figure or table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bitkeras.evaluation.leader import (
    BEHIND,
    NOT_RESOLVED,
    RESOLVED,
    UNKNOWN,
    Lead,
    lead_over,
    leading_arm,
    ranked_arms,
    score_of,
)
from bitkeras.evaluation.verdict import HEALTHY

DISCLAIMER = "Research only, not a medical device: nothing here is a diagnosis."


def summarise(content: Mapping) -> list[tuple[str, str]]:
    """Topic and sentences, the most important first; a topic about which nothing is known is left out.

    Args:
      content: as `report.write_report` takes it, of plain values.
    """
    leader = leading_arm(content)
    found = [("Result", _result(content, leader))]
    if leader is not None:
        found += [("Lead", _lead(content, leader)), ("Baselines", _baselines(content, leader))]
        found.append(("Chance", _chance(content, leader)))
    found += [("Test part", _test_part(content)), ("Leakage", _leakage(content))]
    found += [("Training", _training(content["arms"])), ("Swap", _retention(content["arms"]))]
    return [(topic, " ".join(sentences)) for topic, sentences in found if sentences]


def listed(names: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _result(content: Mapping, leader: Mapping | None) -> list[str]:
    if leader is None:
        return []
    known = _interval(score_of(leader).get("interval"))
    told = [f"95 % interval {known}"] if known else []
    told += [f"{leader['num_runs']} seeds"] if leader.get("num_runs", 1) > 1 else []
    several = sum(not arm.get("baseline") for arm in ranked_arms(content)) > 1
    is_behind = any(arm.get("baseline") for arm in ranked_arms(content)[:1])
    verb = "reaches" if not several else "is the best encoder, with" if is_behind else "leads with"
    behind = f" ({', '.join(told)})" if told else ""
    return [f"{leader['name']} {verb} a balanced accuracy of {score_of(leader)['value']:.3f}{behind}."]


def _lead(content: Mapping, leader: Mapping) -> list[str]:
    others = [arm for arm in ranked_arms(content) if not arm.get("baseline") and arm is not leader]
    if leader.get("baseline") or not others:
        return []
    leads = [lead_over(content, leader, other) for other in others]
    sentences = [_over_the_next(leads[0])]
    for state, told in ((RESOLVED, "resolved"), (NOT_RESOLVED, "not resolved"), (UNKNOWN, "without an interval")):
        names = [lead.over["name"] for lead in leads[1:] if lead.state == state]
        if names:
            sentences.append(
                f"{'Its lead' if len(names) == 1 else 'Its leads'} over {listed(names)} "
                f"{'is' if len(names) == 1 else 'are'} {told}."
            )
    return sentences


def _over_the_next(lead: Lead) -> str:
    name = lead.over["name"]
    if lead.state == BEHIND:
        return f"{name} scores the same, so nobody leads."
    start = f"Its lead of {lead.difference:.3f} over {name}, the next best,"
    if lead.state == UNKNOWN:
        return f"{start} cannot be judged: there is no interval."
    if lead.interval:
        judged = "is resolved" if lead.state == RESOLVED else "is not resolved"
        return f"{start} {judged} on this test set (paired 95 % interval {_interval(lead.interval, signed=True)})."
    if lead.state == RESOLVED:
        return f"{start} is resolved on this test set: their intervals lie apart."
    return f"{start} is not resolved on this test set: their intervals overlap, so it may be luck."


def _baselines(content: Mapping, leader: Mapping) -> list[str]:
    rivals = [arm for arm in ranked_arms(content) if arm.get("baseline") and arm is not leader]
    leads = [lead_over(content, leader, rival) for rival in rivals]
    by_state = {
        state: [lead.over for lead in leads if lead.state == state]
        for state in (BEHIND, RESOLVED, NOT_RESOLVED, UNKNOWN)
    }
    sentences = []
    if by_state[BEHIND]:
        scores = [f"{arm['name']} ({score_of(arm)['value']:.3f})" for arm in by_state[BEHIND]]
        sentences.append(f"It does not beat {listed(scores)}.")
    told = {
        RESOLVED: "Its lead over {} is resolved on this test set.",
        NOT_RESOLVED: "Its lead over {} is not resolved on this test set, so it may be luck.",
        UNKNOWN: "It scores higher than {}, for which there is no interval.",
    }
    return sentences + [
        sentence.format(listed([arm["name"] for arm in by_state[state]]))
        for state, sentence in told.items()
        if by_state[state]
    ]


def _chance(content: Mapping, leader: Mapping) -> list[str]:
    chance, interval = content.get("chance_level"), score_of(leader).get("interval")
    if chance is None:
        return []
    if not interval:
        return [f"Chance is {chance:.3f}."]
    judged = "above it" if interval[0] > chance else "below it" if interval[1] < chance else "not clear of it"
    return [f"Chance is {chance:.3f}; the interval of {leader['name']} is {judged}."]


def _test_part(content: Mapping) -> list[str]:
    sentences = []
    if content.get("num_test_images") is not None:
        lesions = content.get("num_test_lesions")
        of = "" if lesions is None else f" of {lesions:,} lesions"
        sentences.append(f"The test part holds {content['num_test_images']:,} images{of}.")
    return sentences + [
        f"{name.capitalize()}: {str(content[name]).rstrip('.')}." for name in ("data", "split") if content.get(name)
    ]


def _leakage(content: Mapping) -> list[str]:
    if "leakage_share" not in content:
        return []
    share = content["leakage_share"]
    if share is None:
        return ["No lesions are named, so nothing is known about sister photos in other parts."]
    if share == 0:
        return ["No test image has a known sister photo in a part that the models are made of."]
    return [
        f"{share:.1%} of the test images show a lesion that has another photo in a part that the models are made "
        "of, so the scores flatter."
    ]


def _training(arms: Sequence[Mapping]) -> list[str]:
    judged = [arm for arm in arms if arm.get("verdict")]
    healthy = [arm["name"] for arm in judged if arm["verdict"]["state"] == HEALTHY]
    sentences = [
        f"{arm['name']} ended with {arm['verdict']['state']}: {str(arm['verdict']['evidence']).rstrip('.')}."
        for arm in judged
        if arm["verdict"]["state"] != HEALTHY
    ]
    if healthy:
        sentences.append(f"{listed(healthy)} stayed healthy: no sign of collapse.")
    return sentences


def _retention(arms: Sequence[Mapping]) -> list[str]:
    kept = []
    for arm in arms:
        likeness = ((arm.get("retention") or {}).get("stages") or {}).get("overall") or {}
        if arm.get("retention"):
            cka = likeness.get("cka")
            kept.append(f"{arm['name']} {'no number' if cka is None else f'{cka:.2f}'}")
    if not kept:
        return []
    return [
        f"After the swap of its norm, before any training, the likeness to the BiT network (mean CKA over stages, "
        f"1 is unchanged) was: {listed(kept)}."
    ]


def _interval(interval: Sequence[float] | None, *, signed: bool = False) -> str:
    if not interval:
        return ""
    told = " to ".join(f"{value:+.3f}" if signed else f"{value:.3f}" for value in interval)
    return told.replace("-", "\u2212")
