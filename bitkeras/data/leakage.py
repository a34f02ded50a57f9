"""What leaks from the parts that a model is made of into the part it is tested on, as far as a table can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bitkeras.data.source import ImageSource
from bitkeras.data.splits import PARTS, Split

# Everything that has a say in the model: its weights, its classifier, and when to stop. Unused images have none.
TRAINED_PARTS = PARTS[:3]


def leakage_audit(split: Split, source: ImageSource, *, parts: Sequence[str] = TRAINED_PARTS) -> dict:
    """How many test images have a sister photograph of the same lesion in one of `parts`.

    Returns:
      As `shares_of_test`; without lesions the shares are None, since nothing is known. For HAM10000 under
      `paper_split` expect about 0.387 overall and 0.68 for mel.
    """
    if source.groups is None:
        return {**shares_of_test({}, split, source), "overall": None, "by_class": {}}
    test = source.groups[split.indices("test")]
    indices = {part: split.indices(part) for part in parts}
    sisters = {part: np.isin(test, source.groups[images]) for part, images in indices.items() if len(images)}
    return shares_of_test(sisters, split, source)


def seen_audit(split: Split, source: ImageSource, *, seen: np.ndarray) -> dict:
    """How many test images a network has seen, without their labels, and of how many others a sister photograph.

    Args:
      split: another one than the network was made with.
      source: its images.
      seen: int [n], the images that the network was trained on.

    Returns:
      As `shares_of_test`, with "image" and "sister" (of those that were not seen themselves) in place of parts; and
      num_seen, num_sisters_seen (None where no lesions are named), counts of test images.
    """
    test = split.indices("test")
    found = {"image": np.isin(test, seen)}
    if source.groups is not None:
        found["sister"] = np.isin(source.groups[test], source.groups[seen]) & ~found["image"]
    counts = {name: int(flags.sum()) for name, flags in found.items()}
    told = {"num_seen": counts["image"], "num_sisters_seen": counts.get("sister")}
    return {**shares_of_test(found, split, source), **told}


def shares_of_test(found: Mapping[str, np.ndarray], split: Split, source: ImageSource) -> dict:
    """Shares of the test images that something was found for.

    Args:
      found: part -> bool [T], for each of the test images in ascending order.
      split: with T test images.
      source: of the split.

    Returns:
      num_test_images; overall (found in any part; 0 without test images); by_class, {class: share} for the classes that
      have test images; and by_part, {part: share}. Shares are in [0, 1].
    """
    test = split.indices("test")
    anywhere = np.logical_or.reduce([np.zeros(len(test), bool), *found.values()])
    labels = np.full(len(test), -1) if source.labels is None else source.labels[test]
    present = {name: labels == label for label, name in enumerate(source.class_names) if (labels == label).any()}
    return {
        "num_test_images": len(test),
        "overall": _share(anywhere),
        "by_class": {name: _share(anywhere[of_class]) for name, of_class in present.items()},
        "by_part": {part: _share(flags) for part, flags in found.items()},
    }


def _share(flags: np.ndarray) -> float:
    return float(flags.mean()) if len(flags) else 0.0
