"""Lesions dealt out to parts: every lesion to one of them, the parts in given shares, class by class."""

from __future__ import annotations

import numpy as np

from bitkeras.data.source import ImageSource


def lesions_of(source: ImageSource, indices: np.ndarray) -> list[np.ndarray]:
    """The images of each lesion among `indices`, lesions in the order of their ids; without lesions each by itself."""
    if source.groups is None:
        return list(indices[:, None])
    order = indices[np.argsort(source.groups[indices], kind="stable")]
    _, starts = np.unique(source.groups[order], return_index=True)
    return np.split(order, starts[1:])


def class_of_lesions(source: ImageSource, lesions: list[np.ndarray]) -> np.ndarray:
    """int64 [L]: a lesion counts for the class of its first image."""
    return np.array([source.labels[images[0]] for images in lesions], dtype=np.int64)


def deal(source: ImageSource, lesions: list[np.ndarray], shares: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Which part each lesion goes to, in `shares` of the images overall and of every class.

    Lesions are placed class by class, the rarest class first, those with the most photographs first; each goes to a
    part drawn with a chance proportional to the images the part still lacks. That favours no part for large lesions,
    and the many lesions with one photograph fill up what is left, so the shares come out within about an image. What
    a class leaves over or takes too much is made good by the next.

    Args:
      source: with labels.
      lesions: L arrays of images.
      shares: [P], of all images; they sum to 1.
      rng: what is random.

    Returns:
      int64 [L] in [0, P).
    """
    labels, num_images = class_of_lesions(source, lesions), np.array([len(images) for images in lesions])
    per_class = np.bincount(labels, weights=num_images, minlength=len(source.class_names))
    parts, room = np.empty(len(lesions), np.int64), np.zeros(len(shares))
    for label in np.argsort(per_class, kind="stable"):
        room += shares * per_class[label]
        order = rng.permutation(np.flatnonzero(labels == label))
        for lesion in order[np.argsort(-num_images[order], kind="stable")]:
            chances = np.maximum(room, 0)
            parts[lesion] = rng.choice(len(shares), p=chances / chances.sum())
            room[parts[lesion]] -= num_images[lesion]
    return parts
