"""How much of a score on the paper's split by image is owed to lesions that the classifier has seen.

    python docs/results/leaked.py --data_dir=HAM10000

The kept answers of the studies with --other_split=paper are scored on all test images of that split, and on those whose
lesion no labelled image shows. The difference is leakage alone: encoder, classifier and images are the same. Its
interval is for other lesions, drawn at once for both scores.
"""

from __future__ import annotations

import argparse

import numpy as np
from kept import kept_answers, told

from bitkeras.data import read_source
from bitkeras.data.splits import SPLITS
from bitkeras.evaluation.resplit import leakage_differences

SPLIT, LABELLED, METRIC = "paper", ("probe_train", "probe_val"), "balanced_accuracy"
ENCODERS = {
    "BiT-M, frozen": ("labels", "bit_m-"),
    "BiT-M + SimSiam": ("labels", "bit_m_simsiam-"),
    "SimSiam from random weights": ("labels", "simsiam-"),
    "BiT-S, frozen": ("long", "bit_s-"),
    "BiT-M, kept in the swap, calibrated": ("swap_start", "bit_m_swapped-"),
    "BiT-M, the paper's swap, calibrated": ("swap_start", "paper_swap-"),
    "BiT-S + SimSiam, 400 epochs": ("long", "bit_s_simsiam-"),
    "BiT-M + SimSiam, 400 epochs": ("long", "bit_m_simsiam-"),
    "SimSiam from random weights, 400 epochs": ("long", "simsiam-"),
}


def main() -> None:
    """Prints a row for each encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True)
    source = read_source("ham10000", parser.parse_args().data_dir)
    split = SPLITS[SPLIT](source, seed=0)
    seen = np.unique(np.concatenate([source.groups[split.indices(part)] for part in LABELLED]))
    print("| encoder | all test images | those of unseen lesions | difference |\n|---|---|---|---|")
    for name, (study, prefix) in ENCODERS.items():
        answers = kept_answers(study, prefix, split=SPLIT)
        if answers is None:
            continue
        (row,) = leakage_differences(answers, np.isin(answers.groups, seen), metrics=[METRIC])
        unseen = row["unseen"]["value"]
        print(f"| {name} | {unseen + row['difference']:.3f} | {unseen:.3f} | {told(row)} |")


if __name__ == "__main__":
    main()
