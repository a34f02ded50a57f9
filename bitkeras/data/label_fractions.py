"""Fewer labels: a share of the probe's training part, for curves of score against the number of labels."""

from __future__ import annotations

import dataclasses

import numpy as np

from bitkeras.data.dealing import class_of_lesions, lesions_of
from bitkeras.data.source import ImageSource
from bitkeras.data.splits import Split
from bitkeras.errors import UserError

LABEL_UNITS = ("image", "lesion")


def with_fewer_labels(split: Split, source: ImageSource, fraction: float, *, unit: str = "image", seed: int) -> Split:
    """`split` with a share of its probe_train part; the rest of that part is left unused.

    Drawn class by class, at least one of each class that the part holds. With the same seed and unit a smaller fraction
    is a subset of a larger one, so that a curve over fractions adds images and swaps none.

    Args:
      split: of `source`.
      source: labelled images.
      fraction: in (0, 1].
      unit: "image", or "lesion" to draw lesions and keep all photographs that the part holds of each.
      seed: what is drawn.

    Raises:
      UserError: for lesions of a source that knows none, or a fraction out of range.
    """
    if not 0 < fraction <= 1:
        raise UserError(f"A label fraction of {fraction:g} was asked for; it must be above 0 and at most 1.")
    if unit == "lesion" and source.groups is None:
        raise UserError(f"{source.name} names no lesions to draw labels by; leave --label_unit out.")
    grouped = source if unit == "lesion" else dataclasses.replace(source, groups=None)
    indices = split.indices("probe_train")
    lesions = lesions_of(grouped, indices)
    labels, rng = class_of_lesions(source, lesions), np.random.default_rng([seed, LABEL_UNITS.index(unit)])
    kept = []
    for label in np.unique(labels):
        order = rng.permutation(np.flatnonzero(labels == label))
        kept += [lesions[lesion] for lesion in order[: max(1, round(fraction * len(order)))]]
    return split.without(np.setdiff1d(indices, np.concatenate(kept)))


def label_fraction_line(split: Split, fewer: Split, source: ImageSource) -> str:
    """How many labels of each class are left of the training part of `split`."""
    kept, before = fewer.indices("probe_train"), split.indices("probe_train")
    counts = np.bincount(source.labels[kept], minlength=len(source.class_names))
    listed = ", ".join(f"{name} {count}" for name, count in zip(source.class_names[:20], counts))
    more = ", ..." if len(source.class_names) > 20 else ""
    return f"{len(kept)} of {len(before)} labels to train the probe ({listed}{more})"
