"""The gate between an exported model and a served one: lines that it has to pass, each told with its number."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from bitkeras.errors import UserError
from bitkeras.evaluation.comparison import OVERALL_METRICS

_FLOOR = re.compile(r"(?:(?P<of>.+)\.)?(?P<metric>\w+)=(?P<value>[^=]+)")
# Keys of a row of `classes` in the clinical card that are scores.
CLASS_METRICS = ("sensitivity", "specificity", "precision", "f1", "roc_auc", "pr_auc")


@dataclasses.dataclass(frozen=True)
class Floor:
    """A score that a model must reach.

    Attributes:
      metric: of the card's `overall`, or of its classes.
      of: the class; None for all.
      at_least: a fraction.
    """

    metric: str
    of: str | None
    at_least: float

    @property
    def name(self) -> str:
        """As it is given: `mel.sensitivity`."""
        return f"{self.of}.{self.metric}" if self.of else self.metric


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One line of the gate.

    Attributes:
      line: what was asked and found.
      passed: whether it was met.
    """

    line: str
    passed: bool


def parse_floors(text: str, class_names: Sequence[str] | None = None) -> list[Floor]:
    """`balanced_accuracy=0.5,mel.sensitivity=0.6` -> floors.

    Args:
      text: as the flag gives it.
      class_names: of the model; None: not known yet, and any class will do.

    Raises:
      UserError: a part that is no `NAME=VALUE`, an unknown metric or class, or a value outside [0, 1].
    """
    return [_parse_floor(part.strip(), class_names) for part in text.split(",") if part.strip()]


def _parse_floor(part: str, class_names: Sequence[str] | None) -> Floor:
    match = _FLOOR.fullmatch(part)
    classes = "" if class_names is None else f"a class of {', '.join(class_names)} and "
    known = f"{', '.join(OVERALL_METRICS)}, or CLASS.METRIC with {classes}a metric of {', '.join(CLASS_METRICS)}"
    if match is None:
        raise UserError(f"--floors has the part {part!r}; each is METRIC=VALUE, where METRIC is {known}.")
    floor = Floor(match["metric"], match["of"], _fraction(match["value"], part))
    allowed = CLASS_METRICS if floor.of else OVERALL_METRICS
    if floor.metric not in allowed or (floor.of and class_names is not None and floor.of not in class_names):
        raise UserError(f"--floors names {floor.name!r}, which is no score of this model; it has {known}.")
    return floor


def _fraction(value: str, part: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise UserError(f"--floors has the part {part!r}; a score is a fraction from 0 to 1.")
    return number


def judge_floors(card: dict, floors: Sequence[Floor]) -> list[Verdict]:
    """A line for each floor; a score that is not defined on this test part does not reach any."""
    return [_judge_floor(card, floor) for floor in floors]


def _judge_floor(card: dict, floor: Floor) -> Verdict:
    row = card["overall"] if floor.of is None else card["classes"][card["class_names"].index(floor.of)]
    found = row[floor.metric]["value"]
    told = "is not defined on this test part" if found is None else f"is {found:.3f}"
    return Verdict(
        f"{floor.name} {told}, at least {floor.at_least:g} wanted", found is not None and found >= floor.at_least
    )


def judge_difference(row: dict, live_version: int) -> Verdict:
    """A line on the paired difference to the live version: a resolved loss is refused, luck is not."""
    if row["interval"] is None:
        return Verdict(f"{row['metric']} cannot be compared with the live version {live_version}", False)
    low, high = row["interval"]
    told = f"{row['metric']} less that of the live version {live_version} is {row['difference']:+.3f} "
    return Verdict(f"{told}(95 % interval {low:+.3f} to {high:+.3f}), no resolved loss wanted", high >= 0)


def judge_limit(what: str, found: float, unit: str, at_most: float) -> Verdict:
    """A line on latency or size."""
    return Verdict(f"{what} is {found:.1f} {unit}, at most {at_most:g} {unit} wanted", found <= at_most)
