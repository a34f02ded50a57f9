"""How far features are from being one and the same for every image."""

from __future__ import annotations

import numpy as np

from bitkeras.errors import UserError

_TINY = np.finfo(np.float64).tiny


def feature_spread(features: np.ndarray) -> dict[str, float]:
    """Collapse figures of backbone features.

    Give it what the backbone returns, never the output of a batch norm: with backbone features
    constant to 1e-6, normalisation blew that rest up and the spread behind it read 0.999 of a healthy one.

    Args:
      features: float [N, D], N >= 2, finite.

    Returns:
      spread: mean over dimensions of the standard deviation of the l2-normalised features, times sqrt(D)
        (SimSiam, section 4.1): 0 collapsed, 1 the same in every direction.
      mean_pairwise_cosine: over the N (N - 1) / 2 pairs, in [-1, 1]: 1 collapsed.
      std_to_mean: length of the vector of standard deviations over the length of the mean: 0 collapsed.
      rankme: exp of the entropy of the normalised singular values (RankMe, arXiv 2210.02885), in
        [1, min(N, D)]: 1 collapsed; it grows with N, so compare at one N.
      num_images: N.

    Raises:
      UserError: fewer than two images.
    """
    features = np.asarray(features, np.float64)
    if len(features) < 2:
        raise UserError(f"The spread of features was asked of {len(features)} images; give at least 2 to compare.")
    # Scaled to at most 1 in size, so that squares neither overflow nor vanish.
    features = features / max(np.abs(features).max(), _TINY)
    units = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), _TINY)
    std, mean = features.std(axis=0), features.mean(axis=0)
    return {
        "spread": float(units.std(axis=0).mean() * np.sqrt(units.shape[1])),
        "mean_pairwise_cosine": _mean_pairwise_cosine(units),
        "std_to_mean": float(np.linalg.norm(std) / max(np.linalg.norm(mean), 1e-12)),
        "rankme": _rankme(features),
        "num_images": float(len(features)),
    }


def _mean_pairwise_cosine(units: np.ndarray) -> float:
    """Exact mean of u_i . u_j over i != j in O(N D): |sum u|^2 holds every pair twice and every |u_i|^2 once."""
    num_images = len(units)
    total = np.square(units.sum(axis=0)).sum() - np.square(units).sum()
    return float(total / (num_images * (num_images - 1)))


def _rankme(features: np.ndarray) -> float:
    """Exp of the entropy of the singular values of [N, D], which are not centred, as in RankMe."""
    gram = features.T @ features if features.shape[1] <= len(features) else features @ features.T
    # The smaller Gram matrix instead of an SVD of [N, D]: some 5x faster at D = 2048, and float64 keeps 8 digits.
    singular = np.sqrt(np.maximum(np.linalg.eigvalsh(gram), 0.0))
    if singular.sum() == 0:
        return 1.0
    weights = singular / singular.sum()
    return float(np.exp(-np.sum(weights * np.log(np.maximum(weights, _TINY)))))
