"""Who leads a comparison, and by how much over whom."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

METRIC = "balanced_accuracy"
# How a lead stands.
RESOLVED, NOT_RESOLVED, UNKNOWN, BEHIND = "resolved", "not resolved", "unknown", "behind"


@dataclasses.dataclass(frozen=True)
class Lead:
    """What is known of one arm against another.

    Attributes:
      over: the other arm.
      state: RESOLVED, NOT_RESOLVED, UNKNOWN (there is no interval), or BEHIND where the other scores as high or higher.
      difference: score of the leader less that of the other.
      interval: of the paired difference; None where only the two intervals were compared, or none is known.
    """

    over: Mapping
    state: str
    difference: float
    interval: tuple[float, float] | None = None


def score_of(arm: Mapping, metric: str = METRIC) -> dict:
    """The score of an arm; an empty one where it has none."""
    return arm["scores"].get(metric) or {"value": None, "std": None, "interval": None, "trials": []}


def ranked_arms(content: Mapping) -> list[Mapping]:
    """Arms that have a score, best first."""
    scored = [arm for arm in content["arms"] if score_of(arm)["value"] is not None]
    return sorted(scored, key=lambda arm: -score_of(arm)["value"])


def leading_arm(content: Mapping, *, with_card: bool = False) -> Mapping | None:
    """The best arm that is no baseline (the best baseline where there are only these); None where nothing is scored."""
    arms = [arm for arm in ranked_arms(content) if arm.get("card") or not with_card]
    return next((arm for arm in arms if not arm.get("baseline")), arms[0] if arms else None)


def told_names(content: Mapping) -> dict[str, str]:
    """Arm -> its name."""
    return {arm["id"]: arm["name"] for arm in content["arms"]}


def lead_over(content: Mapping, leader: Mapping, other: Mapping) -> Lead:
    """How the leader stands against another arm: by the paired difference, else by the two intervals."""
    first, second = score_of(leader), score_of(other)
    difference = first["value"] - second["value"]
    if difference <= 0:
        return Lead(other, BEHIND, difference)
    paired = _paired(content, leader["id"], other["id"])
    if paired is not None:
        return Lead(other, RESOLVED if paired[0] > 0 else NOT_RESOLVED, difference, paired)
    if first.get("interval") and second.get("interval"):
        return Lead(other, RESOLVED if second["interval"][1] < first["interval"][0] else NOT_RESOLVED, difference)
    return Lead(other, UNKNOWN, difference)


def _paired(content: Mapping, leader: str, other: str) -> tuple[float, float] | None:
    """The interval of the paired difference, leader less other, whichever way round it stands in the content."""
    for row in content.get("differences") or []:
        if row["metric"] == METRIC and {row["a"], row["b"]} == {leader, other} and row.get("interval"):
            low, high = row["interval"]
            return (low, high) if row["a"] == leader else (-high, -low)
    return None
