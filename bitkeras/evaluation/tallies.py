"""Hits, labels and predictions counted by class, of one test set or of thousands of resamples, and scores of them."""

from __future__ import annotations

import dataclasses

import numpy as np

from bitkeras.evaluation.resampling import Resamples


@dataclasses.dataclass(frozen=True)
class Tally:
    """Counts by class, float [..., K].

    Attributes:
      hits: images of the class that were predicted as it.
      support: images of the class.
      predicted: images predicted as it.
    """

    hits: np.ndarray
    support: np.ndarray
    predicted: np.ndarray

    @property
    def num_images(self) -> np.ndarray:
        """[..., 1]."""
        return self.support.sum(-1, keepdims=True)


def tally(
    labels: np.ndarray, predictions: np.ndarray, num_classes: int, *, resamples: Resamples | None = None
) -> Tally:
    """Counts [K] of labels and predictions, int [N] each; with `resamples` those of every resample, [S, K]."""
    if resamples is None:
        counts = tally(labels, predictions, num_classes, resamples=Resamples.once(len(labels)))
        return Tally(counts.hits[0], counts.support[0], counts.predicted[0])
    return Tally(
        hits=resamples.counts(labels, num_classes, where=labels == predictions),
        support=resamples.counts(labels, num_classes),
        predicted=resamples.counts(predictions, num_classes),
    )


def sensitivity(counts: Tally) -> np.ndarray:
    """Share of a class's images that are found (recall), [..., K]; NaN for a class without images."""
    return ratio(counts.hits, counts.support)


def specificity(counts: Tally) -> np.ndarray:
    """Share of the other classes' images that are not taken for it, [..., K]; NaN where there are none."""
    others = counts.num_images - counts.support
    return ratio(others - (counts.predicted - counts.hits), others)


def precision(counts: Tally) -> np.ndarray:
    """Share of the predictions of a class that are right, [..., K]; NaN for a class never predicted."""
    return ratio(counts.hits, counts.predicted)


def f1(counts: Tally) -> np.ndarray:
    """Harmonic mean of sensitivity and precision, [..., K]; NaN for a class without images."""
    scores = ratio(2 * counts.hits, counts.support + counts.predicted)
    return np.where(counts.support > 0, scores, np.nan)


# Of each class against all others.
CLASS_SCORES = {"sensitivity": sensitivity, "specificity": specificity, "precision": precision, "f1": f1}


def balanced_accuracies(counts: Tally) -> np.ndarray:
    """Mean sensitivity of the classes that have images, [...]."""
    return mean_defined(sensitivity(counts))


def macro_f1s(counts: Tally) -> np.ndarray:
    """Mean F1 of the classes that have images, [...]."""
    return mean_defined(f1(counts))


def accuracies(counts: Tally) -> np.ndarray:
    """Share of right predictions, [...]."""
    return counts.hits.sum(-1) / counts.num_images[..., 0]


def mean_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(-1), defined.sum(-1))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part / whole; NaN where the whole is not above 0."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)
