"""Scores as fractions in [0, 1], their chance level and their intervals."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bitkeras.errors import UserError
from bitkeras.evaluation.resampling import LEVEL, NUM_SAMPLES, Resamples, percentile_interval
from bitkeras.evaluation.tallies import Tally, accuracies, balanced_accuracies, macro_f1s, tally


def balanced_accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean recall over the classes that stand in `labels`."""
    from sklearn.metrics import recall_score

    # Not balanced_accuracy_score: it warns on screen when a class is predicted that is not in the labels.
    return float(recall_score(labels, predictions, labels=np.unique(labels), average="macro", zero_division=0))


def macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Mean F1 over the classes that stand in `labels`."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, labels=np.unique(labels), average="macro", zero_division=0))


def accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Fraction of right predictions."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(labels, predictions))


# name -> function of (labels [N], predictions [N])
METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "accuracy": accuracy,
}


def chance_level(num_classes: int) -> float:
    """Balanced accuracy of guessing, or of always naming one class: 1 / K."""
    return 1.0 / num_classes


# The same scores from counts by class, for thousands of resamples at once: scikit-learn takes 2-3 ms a call, so 1,000
# resamples of 3 trials would take 9 s for each score. A test holds both equal.
OF_TALLY: dict[str, Callable[[Tally], np.ndarray]] = {
    "balanced_accuracy": balanced_accuracies,
    "macro_f1": macro_f1s,
    "accuracy": accuracies,
}


def bootstrap_interval(
    metric: str,
    labels: np.ndarray,
    predictions: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    num_samples: int = NUM_SAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Percentile interval of a score, drawing test images, or whole lesions, with replacement (see `resampling`).

    Args:
      metric: a key of `METRICS`.
      labels: int [N] in [0, K).
      predictions: int [N], or [T, N] for T trials, whose mean score is then resampled.
      groups: [N], the lesion of each image; None draws single images.
      num_samples: resamples.
      seed: of the draws.
      level: coverage in (0, 1).

    Returns:
      (low, high), fractions in [0, 1].
    """
    scores = _bootstrap(metric, labels, predictions, groups=groups, num_samples=num_samples, seed=seed)
    return percentile_interval(scores, level=level)


def bootstrap_difference(
    metric: str,
    labels: np.ndarray,
    predictions: np.ndarray,
    others: np.ndarray,
    *,
    groups: np.ndarray | None = None,
    num_samples: int = NUM_SAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Percentile interval of the score of `predictions` less that of `others`, both on the same resampled images.

    Paired, since an image that is hard for one encoder is hard for the other: the interval is much narrower than
    two separate ones, and where it leaves out 0 the difference is resolved on this test set.

    Args:
      metric, labels, groups, num_samples, seed, level: as in `bootstrap_interval`.
      predictions, others: int [N] or [T, N], of two encoders on the same images.

    Returns:
      (low, high), in [-1, 1].
    """
    options = {"groups": groups, "num_samples": num_samples, "seed": seed}
    scores = [_bootstrap(metric, labels, chosen, **options) for chosen in (predictions, others)]
    return percentile_interval(scores[0] - scores[1], level=level)


def _bootstrap(metric: str, labels, predictions, *, groups, num_samples: int, seed: int) -> np.ndarray:
    """Scores [num_samples], mean over trials; the same seed and groups draw the same images."""
    if metric not in METRICS:
        raise UserError(f"There is no metric {metric}; known are {', '.join(sorted(METRICS))}.")
    labels, predictions = np.asarray(labels), np.atleast_2d(predictions)
    num_classes = int(max(labels.max(), predictions.max())) + 1
    resamples = Resamples.of(len(labels), groups, num_samples=num_samples, seed=seed)
    tallies = [tally(labels, row, num_classes, resamples=resamples) for row in predictions]
    return np.mean([OF_TALLY[metric](counts) for counts in tallies], axis=0)


def score_row(
    name: str, labels: np.ndarray, predictions: np.ndarray, *, groups: np.ndarray | None = None, seed: int = 0
) -> dict:
    """One row of the table of scores, as `report.write_report` takes it.

    Args:
      name: of the encoder or baseline.
      labels: int [N].
      predictions: int [T, N], one row per trial, or [N].
      groups: [N], the lesion of each image, for the interval.
      seed: of the bootstrap.

    Returns:
      `name`, mean and standard deviation over trials (None for one) of balanced accuracy, macro F1 and accuracy, and
      `interval`, the 95 % bounds [low, high] of the mean balanced accuracy.
    """
    row: dict = {"name": name}
    for metric, score in METRICS.items():
        trials = [score(labels, trial) for trial in np.atleast_2d(predictions)]
        row[metric] = float(np.mean(trials))
        # One trial has no spread; 0 would claim that it was measured.
        row[f"{metric}_std"] = float(np.std(trials, ddof=1)) if len(trials) > 1 else None
    row["interval"] = list(bootstrap_interval("balanced_accuracy", labels, predictions, groups=groups, seed=seed))
    return row
