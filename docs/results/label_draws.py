"""Encoders with many draws of the labels, on all 3,405 images that none of them was pre-trained on.

    python docs/results/label_draws.py --data_dir=HAM10000 --output=label_draws.json RUN_DIR ENCODER ...

One split has one draw of 851 labels and of 1,702 test images, and the intervals of a study know of other test images
alone. Here the images held out from pre-training are parted into --parts, no lesion in two of them; a class-balanced
logistic regression of each part (its penalty chosen within) answers for all other parts, with three partings. With four
parts a classifier has the labels of a probe of the study, with two those of its training and validation part together.

RUN_DIR is a run of `bitkeras pretrain`, whose split says which images are held out, and the first encoder; ENCODER is
another run, a file in its snapshots/ or a pushed version. Printed are scores, the mean over classifiers, with intervals
over lesions, and the paired differences of every two encoders. Nothing of the study is chosen by it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from itertools import chain, combinations
from pathlib import Path

import numpy as np
from encoded import Photographs, features_of, standardised
from keep_study import shortened
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedGroupKFold

from bitkeras.data.splits import PARTS
from bitkeras.evaluation.answers import Answers
from bitkeras.evaluation.comparison import overall_scores, paired_differences
from bitkeras.runs import RunFolder
from pipelines.encoder_scores import PIXEL_BASELINE_SIZE

PARTINGS, INNER_FOLDS = 3, 3
TOLD = ("balanced_accuracy", "macro_f1", "roc_auc")
DIFFERENCES = TOLD[:2]
STRENGTHS = np.logspace(-4, -1, 4)


def answer(features: np.ndarray, labels: np.ndarray, lesions: np.ndarray, *, num_parts: int, seed: int) -> np.ndarray:
    """Probabilities [num_parts - 1, N, K]: every image is answered for by the classifier of each part but its own.

    Args:
      features: [N, D].
      labels: int [N].
      lesions: [N].
      num_parts: classifiers, each of N / num_parts labels.
      seed: of the parts.
    """
    parts = StratifiedGroupKFold(num_parts, shuffle=True, random_state=seed).split(features, labels, lesions)
    parts = [part for _, part in parts]
    probabilities = np.zeros([num_parts - 1, len(labels), labels.max() + 1], np.float32)
    for place, fit in enumerate(parts):
        rest = [parts[(place + step) % num_parts] for step in range(1, num_parts)]
        known, *asked = standardised(features[fit], *(features[part] for part in rest))
        folds = StratifiedGroupKFold(INNER_FOLDS, shuffle=True, random_state=seed)
        classifier = LogisticRegressionCV(
            Cs=STRENGTHS,
            l1_ratios=(0,),
            cv=list(folds.split(known, labels[fit], lesions[fit])),
            scoring="balanced_accuracy",
            class_weight="balanced",
            max_iter=300,
            use_legacy_attributes=False,
        )
        classifier.fit(known, labels[fit])
        for trial, (part, unknown) in enumerate(zip(rest, asked)):
            probabilities[trial, part] = classifier.predict_proba(unknown)
    return probabilities


def pixels(photographs: Photographs) -> np.ndarray:
    """The images in 16x16 pixels, [N, 768], as the baseline of a probe has them."""
    small = dataclasses.replace(photographs, image_size=PIXEL_BASELINE_SIZE).batches(PARTS[1:])
    return np.concatenate([images.reshape(len(images), -1) for images in small.as_numpy_iterator()])


def main() -> None:
    """Prints a row for each encoder, and writes all to --output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--parts", default=4, type=int)
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    parser.add_argument("encoders", nargs="*", type=Path, metavar="ENCODER")
    arguments = parser.parse_args()
    photographs = Photographs.of(RunFolder(arguments.run), arguments.data_dir)
    held_out = photographs.indices(PARTS[1:])
    source = photographs.source
    labels, lesions = source.labels[held_out], source.groups[held_out]
    answers: dict[str, Answers] = {}
    encoders = features_of([arguments.run, *arguments.encoders], photographs, [PARTS[1:]])
    for name, (features,) in chain(encoders, [("raw pixels", [pixels(photographs)])]):
        partings = [answer(features, labels, lesions, num_parts=arguments.parts, seed=seed) for seed in range(PARTINGS)]
        ids = np.asarray(source.image_ids)[held_out]
        answers[name] = Answers(ids, labels, tuple(source.class_names), np.concatenate(partings), lesions)
        print(name, "answered", flush=True)
    scores = overall_scores(answers)
    # Areas under curves are nearly all of the work, and every pair is asked about.
    differences = paired_differences(answers, list(combinations(answers, 2)), metrics=DIFFERENCES)
    arguments.output.write_text(json.dumps(shortened({"scores": scores, "differences": differences}), indent=2) + "\n")
    for name, row in scores.items():
        print(name, *(f"{metric} {row[metric]['value']:.3f} {interval(row[metric])}" for metric in TOLD), sep="  ")
    for row in differences:
        print(f"{row['a']} less {row['b']}  {row['metric']} {row['difference']:+.3f} {interval(row)}")


def interval(row: dict) -> str:
    """'[.., ..]' of a score or difference."""
    low, high = row["interval"]
    return f"[{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    main()
