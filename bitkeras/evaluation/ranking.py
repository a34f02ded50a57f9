"""How well one class is ranked above the others: areas under curves, and operating points on them.

All of it is of one class against the rest. Images with the same score stand or fall together, as in scikit-learn.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from bitkeras.evaluation.resampling import Resamples
from bitkeras.evaluation.tallies import ratio

OPERATING_POINTS = (0.8, 0.9, 0.95)
# What is held fixed -> what is then found.
FOUND = {"specificity": "sensitivity", "sensitivity": "specificity"}
_NUM_CURVE_POINTS = 100
# A specificity of 0.9 over 10 images is reached with 1 false alarm, though 10 * (1 - 0.9) is 0.99999.
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Ranking:
    """N images in the order of a score, the highest first, and its M distinct thresholds.

    Attributes:
      order: int [N], indices of the images.
      positives: float [N], 1 for images of the class, in that order.
      ends: int [M], the place in the order of the last image that each threshold takes in.
      thresholds: float [M]; an image is taken for the class where its score is at least the threshold.
    """

    order: np.ndarray
    positives: np.ndarray
    ends: np.ndarray
    thresholds: np.ndarray


def rank(is_positive: np.ndarray, scores: np.ndarray) -> Ranking:
    """Ranks images (bool [N], of the class or not) by their scores, float [N]."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    return Ranking(order, is_positive[order].astype(np.float64), ends, ranked[ends])


def found_counts(ranking: Ranking, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images of the class, and of other classes, that each threshold takes for it, [s, M + 1] each.

    Args:
      ranking: of one class.
      weights: [s, N], how often each image counts, in the ranking's order; None: once, and s is 1.

    Returns:
      (true positives, false positives); the first column is 0, the threshold that takes in nothing.
    """
    weights = np.ones([1, len(ranking.order)]) if weights is None else weights
    hits = np.cumsum(weights * ranking.positives, axis=1)[:, ranking.ends]
    alarms = np.cumsum(weights, axis=1)[:, ranking.ends] - hits
    return tuple(np.pad(counts, ((0, 0), (1, 0))) for counts in (hits, alarms))


def roc_auc(hits: np.ndarray, alarms: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, [s]; NaN where all images are of one kind."""
    area = (np.diff(alarms, axis=1) * (hits[:, 1:] + hits[:, :-1])).sum(1) / 2
    return ratio(area, hits[:, -1] * alarms[:, -1])


def average_precision(hits: np.ndarray, alarms: np.ndarray) -> np.ndarray:
    """Area under the precision-recall curve by steps (scikit-learn's average precision), [s]; NaN as `roc_auc`."""
    precisions = hits / np.maximum(hits + alarms, 1)
    area = (np.diff(hits, axis=1) * precisions[:, 1:]).sum(1)
    return np.where(alarms[:, -1] > 0, ratio(area, hits[:, -1]), np.nan)


def operating_place(hits: np.ndarray, alarms: np.ndarray, *, fixed: str, at: float) -> np.ndarray:
    """The column, int [s], of the best threshold at which the `fixed` score is at least `at`."""
    if fixed == "specificity":
        allowed = (1 - at) * alarms[:, -1:] + _ROUNDING
        return (alarms <= allowed).sum(1) - 1
    wanted = at * hits[:, -1:] - _ROUNDING
    # The last column always reaches it, but where there are no images of the class.
    return np.minimum((hits < wanted).sum(1), hits.shape[1] - 1)


def score_at(hits: np.ndarray, alarms: np.ndarray, *, fixed: str, at: float) -> np.ndarray:
    """Sensitivity at a fixed specificity or the reverse, read off each ROC curve, [s]; NaN as `roc_auc`."""
    place = operating_place(hits, alarms, fixed=fixed, at=at)[:, None]
    if fixed == "specificity":
        found = ratio(np.take_along_axis(hits, place, 1)[:, 0], hits[:, -1])
    else:
        found = 1 - ratio(np.take_along_axis(alarms, place, 1)[:, 0], alarms[:, -1])
    return np.where(hits[:, -1] * alarms[:, -1] > 0, found, np.nan)


def rank_scores(ranking: Ranking, resamples: Resamples | None = None) -> dict[str | tuple[str, float], np.ndarray]:
    """Every score of this module for one class, of the test set ([1] each) or of its resamples ([S] each).

    Returns:
      "roc_auc", "pr_auc" and (fixed, at) for each operating point -> scores.
    """
    blocks = [None] if resamples is None else resamples.blocks(ranking.order)
    found: dict = {}
    for weights in blocks:
        hits, alarms = found_counts(ranking, weights)
        found.setdefault("roc_auc", []).append(roc_auc(hits, alarms))
        found.setdefault("pr_auc", []).append(average_precision(hits, alarms))
        for fixed in FOUND:
            for at in OPERATING_POINTS:
                found.setdefault((fixed, at), []).append(score_at(hits, alarms, fixed=fixed, at=at))
    return {name: np.concatenate(scores) for name, scores in found.items()}


def threshold_at(ranking: Ranking, *, fixed: str, at: float) -> float | None:
    """The score from which on an image is taken for the class at an operating point.

    None where no image is, and where all images are of one kind, so that there is no such point.
    """
    place = operating_place(*found_counts(ranking), fixed=fixed, at=at)[0]
    is_mixed = 0 < ranking.positives.sum() < len(ranking.positives)
    return None if place == 0 or not is_mixed else float(ranking.thresholds[place - 1])


def curves(ranking: Ranking) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """ROC and precision-recall curve of one class, at most 100 points each, for drawing; empty where not defined."""
    hits, alarms = (counts[0] for counts in found_counts(ranking))
    if not hits[-1] or not alarms[-1]:
        return {}, {}
    sensitivities, false_positives = hits / hits[-1], alarms / alarms[-1]
    # Even steps along the curve, not along the images: a rare class rises in a few of them.
    way = np.cumsum(np.hypot(np.diff(sensitivities, prepend=0), np.diff(false_positives, prepend=0)))
    kept = np.unique(np.searchsorted(way, np.linspace(0, way[-1], _NUM_CURVE_POINTS)).clip(0, len(way) - 1))
    roc = {"false_positive_rate": false_positives[kept].tolist(), "sensitivity": sensitivities[kept].tolist()}
    some = kept[kept > 0]
    precisions = hits[some] / (hits[some] + alarms[some])
    return roc, {"sensitivity": sensitivities[some].tolist(), "precision": precisions.tolist()}
