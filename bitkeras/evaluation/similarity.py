"""How alike two networks see the same images."""

from __future__ import annotations

import numpy as np

_TINY = np.finfo(np.float64).tiny


def mean_cosine(a: np.ndarray, b: np.ndarray, *, centred: bool = False) -> float:
    """Mean over images of the cosine between an image's two feature vectors, in [-1, 1].

    Features behind a ReLU are all positive, so that even unrelated ones have a cosine far above 0; centred ones do not.

    Args:
      a: float [N, D], finite.
      b: float [N, D], the same images in the same order.
      centred: take each feature's mean over the images away first.
    """
    a, b = _scaled(a, centred=centred), _scaled(b, centred=centred)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(np.mean(np.sum(a * b, axis=1) / np.maximum(lengths, _TINY)))


def linear_cka(a: np.ndarray, b: np.ndarray, *, debiased: bool = True) -> float:
    """Linear centred kernel alignment: 1 for features that are alike up to rotation, scale and offset.

    Source: Kornblith et al. 2019 (arXiv 1905.00414), section 3. Their plain estimate of unrelated features grows with
    D / N, to 0.5 at D = N; the debiased one (Song et al. 2012, as in Nguyen et al. 2020, arXiv 2010.15327) stays near
    0, and may fall a little below.

    Args:
      a: float [N, D], finite, N at least 4.
      b: float [N, E], the same images in the same order.
      debiased: False is the plain estimate.

    Returns:
      The alignment; NaN where one of the two is the same for every image, or there are fewer than 4.
    """
    if len(a) < 4:
        return float("nan")
    dependence = _debiased_dependence if debiased else _dependence
    a, b = (_scaled(features, centred=True) for features in (a, b))
    grams = [features @ features.T for features in (a, b)]
    between, of_a, of_b = (dependence(x, y) for x, y in (grams, grams[:1] * 2, grams[1:] * 2))
    if of_a <= 0 or of_b <= 0:
        return float("nan")
    return float(between / np.sqrt(of_a) / np.sqrt(of_b))


def _dependence(gram_a: np.ndarray, gram_b: np.ndarray) -> float:
    """HSIC of centred features up to a factor: trace(K L)."""
    return float(np.sum(gram_a * gram_b))


def _debiased_dependence(gram_a: np.ndarray, gram_b: np.ndarray) -> float:
    """Unbiased HSIC up to a factor: no image is compared with itself (Song et al. 2012, equation 5)."""
    num_images = len(gram_a)
    a, b = (gram - np.diag(np.diag(gram)) for gram in (gram_a, gram_b))
    sums = a.sum() * b.sum() / ((num_images - 1) * (num_images - 2))
    return float(np.sum(a * b) + sums - 2 / (num_images - 2) * a.sum(axis=0) @ b.sum(axis=0))


def _scaled(features: np.ndarray, *, centred: bool) -> np.ndarray:
    """float64 [N, D] of size at most 1, so that squares neither overflow nor vanish."""
    features = np.asarray(features, np.float64)
    features = features / max(np.abs(features).max(), _TINY)
    if not centred:
        return features
    features = features - features.mean(axis=0)
    return features / max(np.abs(features).max(), _TINY)
