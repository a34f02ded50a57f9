"""Epochs until a start has the kNN score that SimSiam from random weights ends with, from kept curves.

    python docs/results/speed_up.py

As in the report of a study, a score is the mean over five epochs; each seed is compared with the same seed from random
weights. `of all` is the number of epochs from random weights over the epochs of the start; `of its first` over the
epochs after which random weights themselves first had that score.
"""

from __future__ import annotations

import numpy as np
from kept import kept_curves

from pipelines.study_curves import epochs_to_target

NUM_IMAGES = 39 * 128  # of an epoch, of both data sets
SCRATCH = "random weights"
# (setting, images) -> start -> its study, and what the folders of its runs begin with.
SETTINGS = {
    ("rate 0.03", "HAM10000"): {
        SCRATCH: ("paper_rate", "simsiam-"),
        "BiT-S": ("paper_rate", "bit_s_simsiam-"),
        "BiT-M": ("paper_rate", "bit_m_simsiam-"),
    },
    ("rate 0.12", "HAM10000"): {
        SCRATCH: ("main", "simsiam-"),
        "BiT-S": ("main", "bit_s_simsiam-"),
        "BiT-M": ("main", "bit_m_simsiam-"),
    },
    ("rate 0.12, dermatoscopy views", "HAM10000"): {
        SCRATCH: ("views", "simsiam_derm"),
        "BiT-M": ("views", "bit_m_simsiam_dermatoscopy_views-"),
        "BiT-M, kept in the swap": ("beyond", "bit_m_derm_preserved-"),
    },
    ("rate 0.12, 400 epochs", "HAM10000"): {
        SCRATCH: ("long", "simsiam-"),
        "BiT-S": ("long", "bit_s_simsiam-"),
        "BiT-M": ("long", "bit_m_simsiam-"),
    },
    ("BN, 20 epochs", "CIFAR-10"): {
        SCRATCH: ("cifar10_norm", "simsiam-"),
        "BiT-M": ("cifar10_norm", "bit_m_simsiam-"),
        "BiT-M, GN": ("cifar10_norm", "bit_m_simsiam_gn-"),
    },
}


def main() -> None:
    """Prints a row for each start in each setting."""
    print("| setting | start | seeds | kNN at the end | epochs | minutes | of all | of its first |")
    print("|---|---|---|---|---|---|---|---|")
    for (setting, images), starts in SETTINGS.items():
        curves = {name: kept_curves(*place) for name, place in starts.items()}
        curves = {name: of_seed for name, of_seed in curves.items() if of_seed}
        found = epochs_to_target(curves, NUM_IMAGES, of=SCRATCH)
        for row in found["rows"] if found else []:
            of_seed = curves[row["arm"]]
            last = [
                np.mean([one["knn_balanced_accuracy"] for one in rows[-found["window"] :]]) for rows in of_seed.values()
            ]
            reached = None not in row["epochs"] and sum(row["epochs"]) > 0
            length = max(one["epoch"] for one in curves[SCRATCH][found["seeds"][0]])
            cells = [
                f"{images}, {setting}",
                row["arm"],
                str(len(of_seed)),
                f"{np.mean(last):.3f}",
                ", ".join("never" if epoch is None else str(epoch) for epoch in row["epochs"]),
                ", ".join("" if minute is None else f"{minute:.1f}" for minute in row["minutes"]),
                f"{length / np.mean(row['epochs']):.1f}" if reached else "",
                _speedup(row),
            ]
            print(f"| {' | '.join(cells)} |")


def _speedup(row: dict) -> str:
    if row["speedup"] is None or row["arm"] == SCRATCH:
        return ""
    interval = row["speedup_interval"]
    return f"{row['speedup']:.1f}" + (f" [{interval[0]:.1f}, {interval[1]:.1f}]" if interval else "")


if __name__ == "__main__":
    main()
