"""What a change of a network left of what it knew, stage by stage."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bitkeras.evaluation.similarity import linear_cka, mean_cosine

MEASURES = ("cosine", "cosine_centred", "cka")


def compare_stages(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> dict[str, dict]:
    """Likeness of two networks' features of the same images.

    Args:
      before: stage -> float [N, C].
      after: the same stages of the changed network.

    Returns:
      Stage -> {cosine, cosine_centred (means over images of `mean_cosine`), cka (`linear_cka`, debiased)}, and under
      "overall" the mean over the stages. None stands for what is no number: features of some image are not finite, or
      the same for every image.
    """
    stages = {name: _likeness(before[name], after[name]) for name in before}
    overall = {}
    for measure in MEASURES:
        values = [stage[measure] for stage in stages.values()]
        overall[measure] = None if None in values else float(np.mean(values))
    return {**stages, "overall": overall}


def _likeness(before: np.ndarray, after: np.ndarray) -> dict[str, float | None]:
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        return dict.fromkeys(MEASURES)
    values = (mean_cosine(before, after), mean_cosine(before, after, centred=True), linear_cka(before, after))
    return {name: value if math.isfinite(value) else None for name, value in zip(MEASURES, values)}


def retention_table(stages: Mapping[str, Mapping]) -> list[str]:
    """Lines of text: a row a stage."""
    lines = [f"  {'stage':<10}{'cosine':>12}{'centred':>12}{'CKA':>12}"]
    for name, measures in stages.items():
        lines.append(f"  {name:<10}" + "".join(f"{_cell(measures[measure]):>12}" for measure in MEASURES))
    return lines


def _cell(value: float | None) -> str:
    return "no number" if value is None else f"{value:.3f}"
