"""Answers of classifiers that were never trained, as good as one wants them."""

import numpy as np

from bitkeras.evaluation.answers import Answers
from bitkeras.evaluation.calibration import softmax

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
SHARES = (0.04, 0.06, 0.12, 0.02, 0.12, 0.62, 0.02)


def made_answers(
    num_images=300, *, classes=CLASSES, shares=SHARES, trials=2, skill=2.0, seed=0, decimals=None, groups=True
) -> Answers:
    """Logits that lean to the right class by `skill`; with `decimals` probabilities are rounded, so that many tie."""
    rng = np.random.default_rng(seed)
    # The same images and labels whatever the seed: only the answers differ.
    labels = np.random.default_rng(99).choice(len(classes), num_images, p=np.array(shares) / sum(shares))
    logits = rng.normal(0, 1, [trials, num_images, len(classes)]) + skill * np.eye(len(classes))[labels]
    probabilities = softmax(logits).astype(np.float32)
    if decimals is not None:
        probabilities = np.round(probabilities, decimals)
    return Answers(
        image_ids=np.array([f"image{index:05d}" for index in range(num_images)]),
        labels=labels,
        class_names=tuple(classes),
        probabilities=probabilities,
        groups=np.array([f"lesion{index // 2}" for index in range(num_images)]) if groups else None,
    )
