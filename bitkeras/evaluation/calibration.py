"""Whether probabilities mean what they say, and the one number that mends most of it."""

from __future__ import annotations

import numpy as np

from bitkeras.evaluation.resampling import Resamples

NUM_BINS = 15
# Beyond these the validation part says nothing but "surer" or "less sure": it is separated, or guessed at.
TEMPERATURES = (0.05, 20.0)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The T whose softmax(logits / T) gives the labels the highest likelihood (Guo et al. 2017, section 4.2).

    Focal loss with a gamma of 4 leaves probabilities too even, so T comes out below 1. It changes no prediction.

    Args:
      logits: float [N, K], of images the classifier was not trained on.
      labels: int [N].

    Returns:
      T, within `TEMPERATURES`.
    """
    from scipy.optimize import minimize_scalar

    logits = np.asarray(logits, np.float64)

    def loss(log_temperature: float) -> float:
        return float(negative_log_likelihoods(softmax(logits / np.exp(log_temperature)), labels).mean())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))


def softmax(logits: np.ndarray) -> np.ndarray:
    """[..., K] -> probabilities, float64 [..., K]."""
    weights = np.exp(np.asarray(logits, np.float64) - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def negative_log_likelihoods(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log p of the right class, [N], in nats; p is floored at the smallest float32."""
    right = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.maximum(right, np.finfo(np.float32).tiny))


def brier_scores(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared distance of the probabilities to the right answer, summed over classes, [N] in [0, 2] (Brier 1950)."""
    one_hot = np.eye(probabilities.shape[1])[labels]
    return np.square(probabilities - one_hot).sum(axis=1)


def calibration_scores(
    probabilities: np.ndarray, labels: np.ndarray, resamples: Resamples | None = None
) -> dict[str, np.ndarray]:
    """Calibration of the test set ([1] each) or of its resamples ([S] each).

    Returns:
      ece: expected calibration error, mean over images of |confidence - accuracy| of their bin of top probability
        (Guo et al. 2017, equation 3; 15 bins of equal width).
      nll: mean negative log likelihood, nats.
      brier: mean Brier score.
    """
    resamples = Resamples.once(len(labels)) if resamples is None else resamples
    sizes = resamples.sizes()
    confidences, right, bins = _binned(probabilities, labels)
    gaps = np.zeros(len(sizes))
    for index in range(NUM_BINS):
        gaps += np.abs(resamples.sums(np.where(bins == index, confidences - right, 0.0)))
    nll, brier = negative_log_likelihoods(probabilities, labels), brier_scores(probabilities, labels)
    return {"ece": gaps / sizes, "nll": resamples.sums(nll) / sizes, "brier": resamples.sums(brier) / sizes}


def reliability_bins(probabilities: np.ndarray, labels: np.ndarray) -> list[dict]:
    """Rows of a reliability diagram: low, high, count, confidence and accuracy (None for an empty bin)."""
    confidences, right, bins = _binned(probabilities, labels)
    rows = []
    for index in range(NUM_BINS):
        held = bins == index
        means = (float(confidences[held].mean()), float(right[held].mean())) if held.any() else (None, None)
        row = {"low": index / NUM_BINS, "high": (index + 1) / NUM_BINS, "count": int(held.sum())}
        rows.append({**row, "confidence": means[0], "accuracy": means[1]})
    return rows


def _binned(probabilities: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Top probability, right or not, and bin of each image, [N] each; bins are open below and closed above."""
    confidences = probabilities.max(axis=1).astype(np.float64)
    right = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    bins = np.clip(np.ceil(confidences * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    return confidences, right, bins
