"""Encoders with many draws of the labels, on all 3,405 images that none of them was pre-trained on.

    python docs/results/label_draws.py --data_dir=HAM10000 --output=label_draws.json RUN_DIR ENCODER ...

One split has one draw of 851 labels and of 1,702 test images, and the intervals of a study know of other test images
alone. Here the images held out from pre-training are parted into --parts, no lesion in two of them; a class-balanced
logistic regression of each part (its penalty chosen within) answers for all other parts, with five partings. With four
parts a classifier has the labels of a probe of the study, with two those of its training and validation part together.

RUN_DIR is a run of `bitkeras pretrain`, whose split says which images are held out, and the first encoder; ENCODER is
another run, a file in its snapshots/ or a pushed version. Printed is balanced accuracy, the mean over classifiers, with
an interval over lesions, and what each encoder has more than the first. Nothing of the study is chosen by it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from encoded import Photographs, features_of, standardised
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import StratifiedGroupKFold

from bitkeras.data.splits import PARTS
from bitkeras.evaluation.answers import Answers
from bitkeras.evaluation.comparison import overall_scores, paired_differences
from bitkeras.runs import RunFolder

PARTINGS, INNER_FOLDS = 5, 3
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
    for name, (features,) in features_of([arguments.run, *arguments.encoders], photographs, [PARTS[1:]]):
        partings = [answer(features, labels, lesions, num_parts=arguments.parts, seed=seed) for seed in range(PARTINGS)]
        ids = np.asarray(source.image_ids)[held_out]
        answers[name] = Answers(ids, labels, tuple(source.class_names), np.concatenate(partings), lesions)
        print(name, "answered", flush=True)
    scores = overall_scores(answers)
    first = next(iter(answers))
    differences = paired_differences(answers, [(name, first) for name in answers if name != first])
    arguments.output.write_text(json.dumps({"scores": scores, "differences": differences}, indent=2) + "\n")
    for name, row in scores.items():
        less = [d for d in differences if d["a"] == name and d["metric"] == "balanced_accuracy"]
        told = "".join(f"  more than {first}: {d['difference']:+.3f} {np.round(d['interval'], 3)}" for d in less)
        print(
            f"{name}  {row['balanced_accuracy']['value']:.3f} {np.round(row['balanced_accuracy']['interval'], 3)}{told}"
        )


if __name__ == "__main__":
    main()
