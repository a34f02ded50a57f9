"""Groups of people and sites that a score may differ between, from the facts a data set has of its images."""

from __future__ import annotations

import numpy as np

# Shown in this order where the data has them; other facts (how the diagnosis was made) leak the label or say nothing.
SUBGROUP_FACTS = ("sex", "age", "site", "source")
NOT_RECORDED = "not recorded"
OTHERS = "all others"
_AGE_BANDS = ((0, 29), (30, 44), (45, 59), (60, 74))
_MOST_VALUES = 15


def subgroups_of(facts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Fact -> [N] str, the subgroup of each image; ages in years become bands.

    Args:
      facts: as `ImageSource.facts`, "" where one is missing.
    """
    found = {}
    for name in SUBGROUP_FACTS:
        values = facts.get(name)
        if values is None or not any(values):
            continue
        named = np.array([age_band(v) if name == "age" else (v or NOT_RECORDED) for v in values])
        found["age band" if name == "age" else name] = _without_rare(named)
    return found


def age_band(age: str) -> str:
    """The band of an age in years, "57" -> "45 to 59"; `NOT_RECORDED` for what is no age."""
    try:
        years = float(age)
    except ValueError:
        return NOT_RECORDED
    if not 0 <= years < 130:
        return NOT_RECORDED
    for low, high in _AGE_BANDS:
        if years < high + 1:
            return f"{low} to {high}"
    return f"{_AGE_BANDS[-1][1] + 1} and over"


def _without_rare(values: np.ndarray) -> np.ndarray:
    """`values`, the rarest together under one name where there are too many for a table."""
    names, counts = np.unique(values, return_counts=True)
    if len(names) <= _MOST_VALUES:
        return values
    kept = names[np.argsort(-counts, kind="stable")[: _MOST_VALUES - 1]]
    return np.where(np.isin(values, kept), values, OTHERS)
