"""Weighted k-nearest-neighbour classification: what features are worth before anything is trained on them."""

from __future__ import annotations

import numpy as np

from bitkeras.errors import UserError
from bitkeras.evaluation.metrics import METRICS

# Entries of the [queries, bank] cosine matrix held at once, however large the data set: 64 MiB of float32, and 128 MiB
# for their order.
_CHUNK_ENTRIES = 2**24


def unit_rows(features: np.ndarray) -> np.ndarray:
    """[N, D] -> float32 [N, D] with rows of length 1; a zero row stays zero."""
    features, tiny = np.asarray(features, np.float32), np.finfo(np.float32).tiny
    # Divide by the largest entry first: the square of a float32 above 1.8e19 overflows.
    largest = np.maximum(features.max(axis=1, keepdims=True), -features.min(axis=1, keepdims=True))
    features = features / np.maximum(largest, tiny)
    # In place, and the lengths without a matrix of squares: one copy of 1e5 x 2048 features is 0.8 GB.
    features /= np.maximum(np.sqrt(np.einsum("nd,nd->n", features, features))[:, None], tiny)
    return features


def knn_probabilities(
    bank: np.ndarray,
    bank_labels: np.ndarray,
    queries: np.ndarray,
    *,
    num_classes: int,
    k: int = 200,
    temperature: float = 0.07,
) -> np.ndarray:
    """Class weights of each query's k nearest bank rows by cosine, each neighbour voting exp(cos / temperature).

    Two published settings: k 200 with temperature 0.07 (Wu et al. 2018, arXiv 1805.01978, section 3.4; the
    defaults) and k 200 with temperature 0.2 (used by SimSiam's authors). A k larger than the bank
    becomes the bank's size. Which of several equally near rows are taken at the k-th place is not defined.

    Args:
      bank: float32 [N, D], labelled features, of any length per row.
      bank_labels: int [N] in [0, K).
      queries: float32 [Q, D].
      num_classes: K.
      k: neighbours per query.
      temperature: of the votes; small values leave the vote to the nearest.

    Returns:
      float32 [Q, K], rows sum to 1.

    Raises:
      UserError: k below 1, a temperature that is not positive, or an empty bank.
    """
    if k < 1 or temperature <= 0:
        raise UserError(f"kNN got k={k} and temperature={temperature}; use k of at least 1 and a temperature above 0.")
    if len(bank) == 0:
        raise UserError("kNN got an empty bank; give it at least one labelled image to compare with.")
    bank, bank_labels = unit_rows(bank), np.asarray(bank_labels)
    chunk = max(1, _CHUNK_ENTRIES // len(bank))
    probabilities = np.empty([len(queries), num_classes], np.float32)
    for start in range(0, len(queries), chunk):
        cosines = unit_rows(queries[start : start + chunk]) @ bank.T
        probabilities[start : start + chunk] = _vote(cosines, bank_labels, num_classes, k, temperature)
    return probabilities


def _vote(cosines: np.ndarray, bank_labels: np.ndarray, num_classes: int, k: int, temperature: float) -> np.ndarray:
    """[Q, N] cosines -> [Q, K] normalised votes of the k largest in each row."""
    k = min(k, cosines.shape[1])
    nearest = np.argpartition(cosines, -k, axis=1)[:, -k:]
    logits = np.take_along_axis(cosines, nearest, axis=1).astype(np.float64) / temperature
    # Less the row's largest: exp(1 / temperature) overflows below temperature 0.0014, the ratio never does.
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    cells = np.arange(len(cosines))[:, None] * num_classes + bank_labels[nearest]
    votes = np.bincount(cells.ravel(), weights.ravel(), minlength=len(cosines) * num_classes)
    votes = votes.reshape(len(cosines), num_classes)
    return votes / votes.sum(axis=1, keepdims=True)


def knn_balanced_accuracy(
    bank: np.ndarray,
    bank_labels: np.ndarray,
    queries: np.ndarray,
    query_labels: np.ndarray,
    *,
    num_classes: int,
    k: int = 200,
    temperature: float = 0.07,
) -> float:
    """Balanced accuracy in [0, 1] of the likeliest class by `knn_probabilities` (same arguments, same defaults).

    With k above the size of the rare classes the common class outvotes them: chance is still 1 / K, and a
    figure near it says as much about k as about the features.
    """
    probabilities = knn_probabilities(bank, bank_labels, queries, num_classes=num_classes, k=k, temperature=temperature)
    return METRICS["balanced_accuracy"](query_labels, probabilities.argmax(axis=1))
