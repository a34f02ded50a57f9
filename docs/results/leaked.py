"""How much of a score on the paper's split by image is owed to lesions that the classifier has seen.

    python docs/results/leaked.py --data_dir=HAM10000

The kept answers of the studies with --other_split=paper are scored on all test images of that split, and on those whose
lesion no labelled image shows. The difference is leakage alone: encoder, classifier and images are the same. Its
interval is for other lesions, drawn at once for both scores.
"""

from __future__ import annotations

import argparse

from kept import kept_answers, told
from paired import ON_PAPERS_SPLIT

from bitkeras.data import read_source
from bitkeras.data.splits import SPLITS
from pipelines.study_findings import owed_to_leakage

SPLIT, METRIC = "paper", "balanced_accuracy"
ENCODERS = {
    **ON_PAPERS_SPLIT,
    "BiT-S, frozen": ("long", "bit_s-"),
    "BiT-S + SimSiam, 400 epochs": ("long", "bit_s_simsiam-"),
}


def main() -> None:
    """Prints a row for each encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True)
    source = read_source("ham10000", parser.parse_args().data_dir)
    split = SPLITS[SPLIT](source, seed=0)
    print("| encoder | all test images | those of unseen lesions | difference |\n|---|---|---|---|")
    for name, (study, prefix) in ENCODERS.items():
        answers = kept_answers(study, prefix, split=SPLIT)
        if answers is None:
            continue
        row = owed_to_leakage(answers, split, source)[METRIC]
        unseen = row["unseen"]["value"]
        print(f"| {name} | {unseen + row['difference']:.3f} | {unseen:.3f} | {told(row)} |")


if __name__ == "__main__":
    main()
