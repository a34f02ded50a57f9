"""Encoders on all 3,405 images that are not pre-trained on: twice the labels to learn from, twice the images to ask.

    python docs/results/more_labels.py --data_dir=HAM10000 --output=more_labels.json RUN_DIR ENCODER ...

RUN_DIR is a run of `bitkeras pretrain`, whose split says which images are held out, and the first encoder; ENCODER is
another run, a file in its snapshots/ or a pushed version. The held-out images are halved, no lesion in both, and a
class-balanced logistic regression (its penalty chosen within its half) on the one half answers for the other, so that
each image is answered for once; this is done with three halvings. Printed is balanced accuracy with an interval over
lesions, and what each encoder has more than the first.

It is a second look with a classifier of scikit-learn's own; nothing of the study is chosen by it.
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

HALVINGS, INNER_FOLDS = 3, 3
STRENGTHS = np.logspace(-4, -1, 4)


def answer(features: np.ndarray, labels: np.ndarray, lesions: np.ndarray, *, seed: int) -> np.ndarray:
    """Probabilities [N, K] for every image, from a classifier of the half that it is not in.

    Args:
      features: [N, D].
      labels: int [N].
      lesions: [N].
      seed: of the halves.
    """
    probabilities = np.zeros([len(labels), labels.max() + 1], np.float32)
    for fit, asked in StratifiedGroupKFold(2, shuffle=True, random_state=seed).split(features, labels, lesions):
        folds = StratifiedGroupKFold(INNER_FOLDS, shuffle=True, random_state=seed)
        known, unknown = standardised(features[fit], features[asked])
        classifier = LogisticRegressionCV(
            Cs=STRENGTHS,
            cv=list(folds.split(known, labels[fit], lesions[fit])),
            scoring="balanced_accuracy",
            class_weight="balanced",
            max_iter=300,
        )
        probabilities[asked] = classifier.fit(known, labels[fit]).predict_proba(unknown)
    return probabilities


def main() -> None:
    """Prints a row for each encoder, and writes all to --output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    parser.add_argument("encoders", nargs="*", type=Path, metavar="ENCODER")
    arguments = parser.parse_args()
    photographs = Photographs.of(RunFolder(arguments.run), arguments.data_dir)
    held_out = photographs.indices(PARTS[1:])
    source = photographs.source
    labels, lesions = source.labels[held_out], source.groups[held_out]
    answers: dict[str, Answers] = {}
    for name, (features,) in features_of([arguments.run, *arguments.encoders], photographs, [PARTS[1:]]):
        probabilities = np.stack([answer(features, labels, lesions, seed=seed) for seed in range(HALVINGS)])
        ids = np.asarray(source.image_ids)[held_out]
        answers[name] = Answers(ids, labels, tuple(source.class_names), probabilities, groups=lesions)
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
