"""Sources without images: labels and lesions, as unequal as those of skin lesions are."""

from __future__ import annotations

import numpy as np

from bitkeras.data.source import ImageSource
from bitkeras.data.splits import PARTS

SHARES = {"pretrain": 0.6, "probe_train": 0.1, "probe_val": 0.1, "test": 0.2}


def source_of(labels, groups=None, class_names=None, **fields) -> ImageSource:
    labels = np.asarray(labels, dtype=np.int32)
    return ImageSource(
        "made",
        np.array([f"im_{i:05d}" for i in range(len(labels))]),
        labels=labels,
        class_names=class_names or tuple(f"class{k}" for k in range(labels.max() + 1)),
        groups=None if groups is None else np.asarray(groups),
        **fields,
    )


def skin(num_lesions=1500, seed=0) -> ImageSource:
    """Classes as unequal as HAM10000's, lesions of one class with one to six photographs, in mixed order."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([1, 2, 3, 4, 6], num_lesions, p=[0.7, 0.2, 0.06, 0.03, 0.01])
    labels = rng.choice(7, num_lesions, p=[0.03, 0.05, 0.11, 0.015, 0.11, 0.67, 0.015])
    order = rng.permutation(sizes.sum())
    groups = np.repeat([f"L{i:04d}" for i in range(num_lesions)], sizes)[order]
    return source_of(np.repeat(labels, sizes)[order], groups)


def shares(split, chosen) -> dict[str, float]:
    return {part: float(np.mean(split.parts[chosen] == part)) for part in PARTS}
