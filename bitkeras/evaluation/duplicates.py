"""Near-duplicates by their features: copies of an image that no table knows of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from bitkeras.evaluation.knn import unit_rows

# Of whitened features, from where on two images are told as near-duplicates (docs/results/leakage.md). Of 8,512
# photos of HAM10000 0.3 % have one of another lesion as near as this; of copies that were compressed hard, shrunk,
# recoloured or cropped to 95 % a side all are found. Of CIFAR-10's test images 3.2 % have one in the training part;
# Barz and Denzler 2020 (arXiv 1902.00423) count 3.3 % by eye.
NEAR = 0.75

# Entries of the [queries, bank] cosine matrix held at once: 64 MiB of float32.
_CHUNK_ENTRIES = 2**24
# Directions with less than this share of the largest variance are not blown up further: they are noise.
_FLOOR = 1e-3
# Nor are more directions than one for so many images. With as many directions as images each image has one of its own,
# and an image and its copy in the sample come out at right angles: of copies among 60 images none would be found.
_IMAGES_PER_DIRECTION = 8


@dataclasses.dataclass(frozen=True)
class Whitening:
    """Features made uncorrelated and of one variance: what all images of a set share then no longer counts.

    Attributes:
      mean: float64 [D].
      matrix: float64 [D, D].
    """

    mean: np.ndarray
    matrix: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """[N, D] -> float32 [N, D], rows of length 1."""
        return unit_rows((np.asarray(features, np.float64) - self.mean) @ self.matrix)


def fit_whitening(features: np.ndarray) -> Whitening:
    """The whitening of a sample [N, D] of the images that are to be compared; a thousand images suffice."""
    features = np.asarray(features, np.float64)
    mean = features.mean(axis=0)
    variances, directions = np.linalg.eigh((features - mean).T @ (features - mean) / len(features))
    num_directions = min(len(features) // _IMAGES_PER_DIRECTION, len(variances) - 1)
    # A set of equal images has no variance at all, and stays at zero.
    floor = max(_FLOOR * variances[-1], variances[-1 - num_directions], np.finfo(np.float32).tiny)
    return Whitening(mean, directions / np.sqrt(np.maximum(variances, floor)))


@dataclasses.dataclass(frozen=True)
class Nearest:
    """The nearest image of a bank for each of T queries.

    Attributes:
      index: int64 [T], as the blocks of the bank name their images; -1 where none was left to compare with.
      cosine: float32 [T]; -2 there.
    """

    index: np.ndarray
    cosine: np.ndarray

    @property
    def is_near(self) -> np.ndarray:
        """Bool [T]: near enough to be told."""
        return self.cosine >= NEAR


def find_nearest(
    queries: np.ndarray,
    bank: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    query_groups: np.ndarray | None = None,
    bank_groups: np.ndarray | None = None,
) -> Nearest:
    """The nearest row of a bank that comes in blocks; no more than a block of it is held at a time.

    Args:
      queries: float32 [T, D], whitened.
      bank: blocks of (int64 [n] indices, float32 [n, D] whitened features).
      query_groups: [T], or None; images of the same group are known to belong together and are not compared.
      bank_groups: group of a bank image by its index, or None.
    """
    index, cosine = np.full(len(queries), -1, np.int64), np.full(len(queries), -2.0, np.float32)
    for names, features in bank:
        chunk = max(1, _CHUNK_ENTRIES // len(names))
        for start in range(0, len(queries), chunk):
            rows = slice(start, start + chunk)
            cosines = queries[rows] @ features.T
            if query_groups is not None and bank_groups is not None:
                cosines[query_groups[rows, None] == bank_groups[names]] = -2.0
            best = cosines.argmax(axis=1)
            value = cosines[np.arange(len(best)), best]
            better = value > cosine[rows]
            index[rows][better], cosine[rows][better] = names[best[better]], value[better]
    return Nearest(index, cosine)
