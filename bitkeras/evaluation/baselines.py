"""Scores that need no encoder; a useful encoder is clearly above them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np

from bitkeras.evaluation.metrics import balanced_accuracy

# C of the regression on histograms, whose rows have length 1: from nearly all mean to nearly no penalty.
_PENALTIES = (0.1, 1.0, 10.0, 100.0, 1000.0)


def majority_baseline(train_labels: np.ndarray, test_labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Predictions int32 [N_test] that always name the commonest training class (the lowest of several)."""
    commonest = np.bincount(train_labels, minlength=num_classes).argmax()
    return np.full(len(test_labels), commonest, np.int32)


def pixel_baseline(
    train_pixels: np.ndarray,
    train_labels: np.ndarray,
    test_pixels: np.ndarray,
    *,
    image_size: int = 16,
    seed: int = 0,
) -> np.ndarray:
    """Predictions of a class-balanced logistic regression on shrunken pixels.

    Args:
      train_pixels: float32 [N, H, W, 3], any range.
      train_labels: int [N].
      test_pixels: float32 [M, H, W, 3].
      image_size: px, the side the images are shrunk to by averaging; more mostly buys over-fitting.
      seed: of the solver.

    Returns:
      int32 [M].
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(train_labels)) == 1:
        return np.full(len(test_pixels), train_labels[0], np.int32)
    # C below 1: 768 correlated pixels against about a thousand images want a strong penalty.
    regression = LogisticRegression(C=0.01, class_weight="balanced", max_iter=500, random_state=seed)
    model = make_pipeline(StandardScaler(), regression)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(_shrink(train_pixels, image_size), train_labels)
    return model.predict(_shrink(test_pixels, image_size)).astype(np.int32)


def colour_histograms(images: np.ndarray, *, num_bins: int = 8) -> np.ndarray:
    """Square roots of the shares of pixels in each cube of colours: rows of length 1, compared as by Hellinger.

    Args:
      images: float32 [N, H, W, 3] in [-1, 1].
      num_bins: equal ones of each of red, green and blue.

    Returns:
      float32 [N, num_bins ** 3]; red is the slowest index.
    """
    bins = np.clip(((images + 1) / 2 * num_bins).astype(np.int64), 0, num_bins - 1)
    cubes = (bins[..., 0] * num_bins + bins[..., 1]) * num_bins + bins[..., 2]
    rows = [np.bincount(cube.ravel(), minlength=num_bins**3) for cube in cubes]
    return np.sqrt(np.array(rows, np.float32).reshape(-1, num_bins**3) / np.prod(images.shape[1:3]))


def histogram_baseline(
    histograms: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray], num_classes: int, *, seed: int = 0
) -> np.ndarray:
    """Probabilities of a class-balanced logistic regression on colour histograms; the penalty is chosen on validation.

    Args:
      histograms: part -> float32 [N, bins], of probe_train, probe_val and test.
      labels: part -> int [N], of the first two.
      num_classes: K.
      seed: of the solver.

    Returns:
      float32 [N, K] of the test part; classes without a training image have 0.
    """
    from sklearn.linear_model import LogisticRegression

    train, val = (labels[part] for part in ("probe_train", "probe_val"))
    if len(np.unique(train)) == 1:
        return np.eye(num_classes, dtype=np.float32)[np.full(len(histograms["test"]), train[0])]
    best, chosen = -1.0, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for penalty in _PENALTIES:
            model = LogisticRegression(C=penalty, class_weight="balanced", max_iter=500, random_state=seed)
            model.fit(histograms["probe_train"], train)
            score = balanced_accuracy(val, model.predict(histograms["probe_val"]))
            if score > best:
                best, chosen = score, model
    probabilities = np.zeros([len(histograms["test"]), num_classes], np.float32)
    probabilities[:, chosen.classes_] = chosen.predict_proba(histograms["test"])
    return probabilities


def _shrink(pixels: np.ndarray, image_size: int) -> np.ndarray:
    """[N, H, W, 3] -> [N, image_size * image_size * 3] by area averages."""
    import tensorflow as tf

    small = [tf.image.resize(part, [image_size, image_size], method="area") for part in _chunks(pixels, 256)]
    return np.concatenate(small).reshape(len(pixels), -1)


def _chunks(array: np.ndarray, size: int) -> list[np.ndarray]:
    return [array[start : start + size] for start in range(0, len(array), size)]
