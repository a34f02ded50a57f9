"""Two numbers of a study that are read off curves: epochs to a target, and the worth of a label."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

METRIC = "knn_balanced_accuracy"


def epochs_to_target(curves: Mapping[str, Mapping[int, Sequence[Mapping]]], num_images: int, *, of: str) -> dict | None:
    """When each arm reaches the kNN score that the arm `of` ends with.

    Each run is compared with the run of `of` on the same seed. The speed-up is the mean epoch at which `of` first has
    its own final score over that of the arm: an early peak of `of` does not count for the arm.

    Args:
      curves: arm -> seed -> rows of `metrics.jsonl`, epoch 0 first.
      num_images: of an epoch.
      of: the arm that sets the target.

    Returns:
      target (mean over seeds), seeds, targets (one a seed), of, metric and rows of arm, epochs and minutes (one a
      seed, None where the target was not reached) and speedup (None where a seed did not reach it, or all did
      before the first epoch); None where `of` has no scores.
    """
    targets = {seed: _scores(rows)[-1][1] for seed, rows in curves.get(of, {}).items() if _scores(rows)}
    if not targets:
        return None
    found = {
        # A seed whose run failed says nothing about the arm.
        arm: {seed: first_epoch(by_seed[seed], target) for seed, target in targets.items() if seed in by_seed}
        for arm, by_seed in curves.items()
    }
    rows = []
    for arm, epochs in found.items():
        minutes = [
            None if epoch is None else minutes_of(curves[arm][seed], num_images, until=epoch)
            for seed, epoch in epochs.items()
        ]
        speedup = _speedup([found[of][seed] for seed in epochs], list(epochs.values()))
        rows.append({"arm": arm, "epochs": list(epochs.values()), "minutes": minutes, "speedup": speedup})
    known = {"seeds": list(targets), "targets": list(targets.values()), "of": of, "metric": METRIC}
    return {"target": float(np.mean(known["targets"])), **known, "rows": rows}


def first_epoch(rows: Sequence[Mapping], target: float) -> int | None:
    """The first epoch whose score is at least `target`; 0 is before training."""
    return next((epoch for epoch, score in _scores(rows) if score >= target), None)


def minutes_of(rows: Sequence[Mapping], num_images: int, *, until: int | None = None) -> float:
    """Minutes of training up to the epoch `until` (None: all), without what was measured in between."""
    counted = [row for row in rows if "images_per_second" in row and (until is None or row["epoch"] <= until)]
    return sum(num_images / row["images_per_second"] for row in counted) / 60


def count_labels(probe_dir: Path) -> int:
    """Labels that a probe was trained on."""
    # Where it was trained on a share of them, or on other parts than its run's, the probe keeps a list of its own.
    lists = (probe_dir / "labels.csv", probe_dir / "split.csv", probe_dir.parent / "split.csv")
    return count_images(next(path for path in lists if path.is_file()), "probe_train")


def count_images(path: Path, part: str) -> int:
    """Images of a part in a table of a split."""
    with open(path, encoding="utf-8", newline="") as file:
        return sum(row["part"] == part for row in csv.DictReader(file))


def _scores(rows: Sequence[Mapping]) -> list[tuple[int, float]]:
    return [(int(row["epoch"]), row[METRIC]) for row in rows if row.get(METRIC) is not None]


def _speedup(of: Sequence[int | None], epochs: Sequence[int | None]) -> float | None:
    if None in epochs or not sum(epochs):  # also where there is no run
        return None
    return float(np.mean(of) / np.mean(epochs))
