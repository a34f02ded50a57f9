"""Cross-validation: k splits whose test parts together hold every image once."""

from __future__ import annotations

import dataclasses

import numpy as np

from bitkeras.data.dealing import deal, lesions_of
from bitkeras.data.source import ImageSource
from bitkeras.data.splits import SPLITS, Split
from bitkeras.errors import UserError


def fold_split(source: ImageSource, name: str, *, num_folds: int, fold: int, seed: int) -> Split:
    """The split `name` of `SPLITS` with the `fold`-th of `num_folds` test parts; what is left is cut 75 / 12.5 / 12.5.

    The test parts are grouped as that split groups (images, or whole lesions) and stratified by class; with the same
    seed they are the same ones whichever `fold` is asked for.

    Raises:
      UserError: there is no such fold, there are no labels, the source has a released test part, or there are too few
        images or lesions.
    """
    if not 0 <= fold < num_folds or num_folds < 2:
        raise UserError(f"There is no fold {fold} of {num_folds}; folds are counted from 0, and at least two.")
    if source.labels is None:
        raise UserError(f"{source.name} has no labels, so there is no test part to make folds of; leave --fold out.")
    if source.official_test is not None and source.official_test.any():
        raise UserError(
            f"{source.name} has a released test part, which every fold would have to test on; leave --fold out."
        )
    tested = _fold_of_images(source, name, num_folds, seed) == fold
    if not tested.any():
        raise UserError(
            f"Fold {fold} of {num_folds} of {source.name} holds no image; pass a smaller --num_folds or use more data."
        )
    return SPLITS[name](dataclasses.replace(source, official_test=tested), seed=seed)


def _fold_of_images(source: ImageSource, name: str, num_folds: int, seed: int) -> np.ndarray:
    """int64 [N] in [0, num_folds)."""
    grouped = source if name == "lesion" else dataclasses.replace(source, groups=None)
    lesions = lesions_of(grouped, np.arange(len(source)))
    folds = np.empty(len(source), np.int64)
    # A stream of its own: the split of what is left draws from the seed itself.
    rng = np.random.default_rng([seed, num_folds])
    for images, fold in zip(lesions, deal(source, lesions, np.full(num_folds, 1 / num_folds), rng=rng)):
        folds[images] = fold
    return folds
