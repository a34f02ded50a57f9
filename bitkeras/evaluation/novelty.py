"""How unlike the known images a new one is, by its distance to them in the space of features."""

from __future__ import annotations

import dataclasses

import numpy as np

from bitkeras.evaluation.knn import unit_rows

MAX_REFERENCES = 1000
NUM_NEIGHBOURS = 10


@dataclasses.dataclass(frozen=True)
class Familiar:
    """What known images look like.

    Attributes:
      references: float32 [M, D], rows of length 1, features of images the probe was trained on.
      distances: float32 [V], ascending: how far validation images are from them.
    """

    references: np.ndarray
    distances: np.ndarray


def fit_familiar(train_features: np.ndarray, val_features: np.ndarray, *, seed: int = 0) -> Familiar:
    """Takes up to 1,000 training images, and the distances of validation images to these.

    Args:
      train_features: float32 [N, D].
      val_features: float32 [V, D], of images that are not among them.
      seed: of the choice.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(train_features))[:MAX_REFERENCES])
    references = unit_rows(train_features[chosen])
    return Familiar(references, np.sort(distances_to(references, val_features)))


def distances_to(references: np.ndarray, features: np.ndarray) -> np.ndarray:
    """1 - cosine to the 10th nearest reference, [N] in [0, 2] (Sun et al. 2022, arXiv 2204.06507, section 3).

    Args:
      references: float32 [M, D], rows of length 1; with fewer than 10 the farthest counts.
      features: float32 [N, D], of any length per row.
    """
    cosines = unit_rows(features) @ references.T
    k = min(NUM_NEIGHBOURS, len(references))
    return (1 - np.partition(cosines, -k, axis=1)[:, -k]).astype(np.float32)


def novelty(familiar: Familiar, features: np.ndarray) -> np.ndarray:
    """Share of the validation images that are nearer to the known ones, float32 [N]; .99 is rarer than one in 100."""
    places = np.searchsorted(familiar.distances, distances_to(familiar.references, features))
    return (places / len(familiar.distances)).astype(np.float32)
