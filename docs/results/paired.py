"""Paired differences of encoders that stand in different studies, from the answers that keep_study.py kept.

    python docs/results/paired.py > docs/results/study/paired.md

All of these studies have one split, so that their encoders answered on the same test images. Of an encoder with several
pre-training seeds the seeds are drawn anew with the lesions.
"""

from __future__ import annotations

from kept import kept_answers, told

from bitkeras.evaluation.answers import Answers
from bitkeras.evaluation.comparison import paired_differences

METRICS = {"balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1", "roc_auc": "ROC AUC"}
# What it is -> its study, and what the folders of its runs begin with.
STARTS = {
    "BiT-M, frozen": ("main", "bit_m-"),
    "BiT-M, kept in the swap, calibrated": ("main", "bit_m_swapped-"),
    "BiT-M, the paper's swap, calibrated": ("swap_start", "paper_swap-"),
}
TRAINED = {
    "BiT-M + SimSiam, rate 0.03": ("paper_rate", "bit_m_simsiam-"),
    "BiT-M + SimSiam": ("main", "bit_m_simsiam-"),
    "BiT-M + SimSiam, statistics of BN taken anew": ("bn_calibrated", "bit_m_simsiam-"),
    "BiT-M + SimSiam on pairs of a lesion": ("beyond", "bit_m_simsiam_lesion_pairs-"),
    "BiT-M + SimSiam, EMA": ("beyond", "bit_m_ema-"),
    "BiT-M + SimSiam, dermatoscopy views": ("views", "bit_m_simsiam_dermatoscopy_views-"),
    "BiT-M, kept in the swap, + SimSiam, dermatoscopy views": ("beyond", "bit_m_derm_preserved-"),
    "BiT-M + SimSiam, 400 epochs": ("long", "bit_m_simsiam-"),
    "BiT-S + SimSiam": ("main", "bit_s_simsiam-"),
    "BiT-S + SimSiam, 400 epochs": ("long", "bit_s_simsiam-"),
    "SimSiam from random weights": ("main", "simsiam-"),
    "SimSiam from random weights, dermatoscopy views": ("views", "simsiam_derm"),
    "SimSiam from random weights, 400 epochs": ("long", "simsiam-"),
    "BiT-M, fine-tuned": ("finetuned", "bit_m-"),
    "random weights, fine-tuned": ("finetuned", "scratch_finetuned-"),
}
# The same on the paper's split by image, for the encoders that were asked about both.
ON_PAPERS_SPLIT = {
    "BiT-M, frozen": ("labels", "bit_m-"),
    "BiT-M, kept in the swap, calibrated": ("swap_start", "bit_m_swapped-"),
    "BiT-M, the paper's swap, calibrated": ("swap_start", "paper_swap-"),
    "BiT-M + SimSiam": ("labels", "bit_m_simsiam-"),
    "BiT-M + SimSiam, 400 epochs": ("long", "bit_m_simsiam-"),
    "SimSiam from random weights": ("labels", "simsiam-"),
    "SimSiam from random weights, 400 epochs": ("long", "simsiam-"),
}


def main() -> None:
    """Prints, for each split and start, a table of what the trained encoders have more."""
    print("# What the trained encoders have more than the starts\n\nMade by `docs/results/paired.py`.")
    print("\n## Split by lesion\n")
    tell({name: kept_answers(*place) for name, place in {**STARTS, **TRAINED}.items()})
    print("## The paper's split by image, encoders pre-trained on the split by lesion\n")
    tell({name: kept_answers(*place, split="paper") for name, place in ON_PAPERS_SPLIT.items()})


def tell(answers: dict[str, Answers | None]) -> None:
    """Prints a table for each start, and the names of those whose answers were not kept."""
    held = {name: one for name, one in answers.items() if one is not None}
    for start in (name for name in STARTS if name in held):
        pairs = [(name, start) for name in held if name not in STARTS]
        rows = iter(paired_differences(held, pairs, metrics=list(METRICS)))
        print(f"| less {start} | seeds | {' | '.join(METRICS.values())} |\n|---|---|{'---|' * len(METRICS)}")
        for name, _ in pairs:
            cells = [told(next(rows)) for _ in METRICS]
            print(f"| {name} | {len(set(held[name].run_of_trial))} | {' | '.join(cells)} |")
        print()
    if len(held) < len(answers):
        print(f"Not kept: {', '.join(name for name in answers if name not in held)}.\n")


if __name__ == "__main__":
    main()
