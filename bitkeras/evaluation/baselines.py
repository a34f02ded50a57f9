"""Scores that need no encoder; a useful encoder is clearly above them."""

from __future__ import annotations

import warnings

import numpy as np


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


def _shrink(pixels: np.ndarray, image_size: int) -> np.ndarray:
    """[N, H, W, 3] -> [N, image_size * image_size * 3] by area averages."""
    import tensorflow as tf

    small = [tf.image.resize(part, [image_size, image_size], method="area") for part in _chunks(pixels, 256)]
    return np.concatenate(small).reshape(len(pixels), -1)


def _chunks(array: np.ndarray, size: int) -> list[np.ndarray]:
    return [array[start : start + size] for start in range(0, len(array), size)]
