"""How far features are from being one and the same for every image."""

from __future__ import annotations

import numpy as np

from bitkeras.errors import UserError

_TINY = np.finfo(np.float64).tiny
# Entries of the [N, N] matrix of distances held at once: 16 MiB of float64, however many images there are.
_CHUNK_ENTRIES = 2**21


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
      explained_variance_auc: as `explained_variance_auc` has it, in [0.5, 1]: 1 collapsed; compare at one N, too.
      uniformity: log of the mean over the pairs of exp(-2 d^2), d the distance of the l2-normalised features
        (Wang and Isola, arXiv 2005.10242, section 4.1.2, t = 2), in [-8, 0]: 0 collapsed.
      num_images: N.

    Raises:
      UserError: fewer than two images.
    """
    features = np.asarray(features, np.float64)
    if len(features) < 2:
        raise UserError(f"The spread of features was asked of {len(features)} images; give at least 2 to compare.")
    # Scaled to at most 1 in size, so that squares neither overflow nor vanish.
    features = features / max(np.abs(features).max(), _TINY)
    units = _units(features)
    std, mean = features.std(axis=0), features.mean(axis=0)
    return {
        "spread": _spread(units),
        "mean_pairwise_cosine": _mean_pairwise_cosine(units),
        "std_to_mean": float(np.linalg.norm(std) / max(np.linalg.norm(mean), 1e-12)),
        "rankme": _rankme(features),
        "explained_variance_auc": explained_variance_auc(features),
        "uniformity": _uniformity(units),
        "num_images": float(len(features)),
    }


def projector_spread(projections: np.ndarray) -> dict[str, float]:
    """What is left of the spread behind the projector, [N, E] with N >= 2, to be read next to `feature_spread`.

    Returns:
      projector_spread: `spread` of the projections, the figure that SimSiam shows in figure 2. Behind a batch norm it
        does not see constant features, see `feature_spread`.
      projector_rankme: `rankme` of the projections, which no scaling of single dimensions brings back.
    """
    projections = np.asarray(projections, np.float64)
    projections = projections / max(np.abs(projections).max(), _TINY)
    return {"projector_spread": _spread(_units(projections)), "projector_rankme": _rankme(projections)}


def alignment(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Mean squared distance of the l2-normalised features of two views of an image, [N, D] each, in [0, 4].

    Source: Wang and Isola (arXiv 2005.10242), section 4.1.1, alpha = 2; 0 where both views have the same features,
    which is what training is for, and also what a collapse looks like.
    """
    units_a, units_b = (_units(np.asarray(features, np.float64)) for features in (features_a, features_b))
    return float(np.square(units_a - units_b).sum(axis=1).mean())


def explained_variance_auc(features: np.ndarray) -> float:
    """Area under the cumulative explained variance of [N, D], which Li, Efros and Pathak propose (arXiv 2209.15007).

    With the eigenvalues of the covariance in falling order, l_1 to l_R, it is the mean over j of (l_1 + ... + l_j) /
    (l_1 + ... + l_R): (R + 1) / 2R for equal ones, 1 for a single one and where nothing varies. R = min(N - 1, D) is
    how many directions N points can vary in; D in its place would call few images collapsed.
    """
    num_images, num_dims = features.shape
    mean = features.mean(axis=0)
    centred = features - mean
    # What varies by less than float32 holds does not vary: the rest is the rounding of the mean.
    if np.abs(centred).max() <= 2**-23 * np.abs(mean).max():
        return 1.0
    variances = _eigenvalues(centred)[::-1][: min(num_images - 1, num_dims)]
    return float(np.mean(np.cumsum(variances) / variances.sum()))


def _units(features: np.ndarray) -> np.ndarray:
    """[N, D] with rows of length 1; a zero row stays zero."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), _TINY)


def _spread(units: np.ndarray) -> float:
    return float(units.std(axis=0).mean() * np.sqrt(units.shape[1]))


def _mean_pairwise_cosine(units: np.ndarray) -> float:
    """Exact mean of u_i . u_j over i != j in O(N D): |sum u|^2 holds every pair twice and every |u_i|^2 once."""
    num_images = len(units)
    total = np.square(units.sum(axis=0)).sum() - np.square(units).sum()
    return float(total / (num_images * (num_images - 1)))


def _uniformity(units: np.ndarray) -> float:
    num_images, chunk = len(units), max(1, _CHUNK_ENTRIES // len(units))
    lengths = np.square(units).sum(axis=1)
    total = 0.0
    for start in range(0, num_images, chunk):
        rows = slice(start, start + chunk)
        distances = lengths[rows, None] + lengths - 2 * units[rows] @ units.T
        total += np.exp(-2 * np.maximum(distances, 0.0)).sum()
    # Every image stands once with itself, at distance 0.
    return float(np.log((total - num_images) / (num_images * (num_images - 1))))


def _rankme(features: np.ndarray) -> float:
    """Exp of the entropy of the singular values of [N, D], which are not centred, as in RankMe."""
    singular = np.sqrt(_eigenvalues(features))
    if singular.sum() == 0:
        return 1.0
    weights = singular / singular.sum()
    return float(np.exp(-np.sum(weights * np.log(np.maximum(weights, _TINY)))))


def _eigenvalues(features: np.ndarray) -> np.ndarray:
    """Squares of the singular values of [N, D], ascending, [min(N, D)].

    From the smaller Gram matrix instead of an SVD of [N, D]: some 5x faster at D = 2048, and float64 keeps 8 digits.
    """
    gram = features.T @ features if features.shape[1] <= len(features) else features @ features.T
    return np.maximum(np.linalg.eigvalsh(gram), 0.0)
