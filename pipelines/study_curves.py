"""Two numbers of a study that are read off curves: epochs to a target, and the worth of a label."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

METRIC = "knn_balanced_accuracy"
# Epochs to either side whose scores count with an epoch's own. One score scatters by .005 to .010 from epoch to epoch
# (nine runs on HAM10000), where a training gains .03 to .06 in all. With that scatter drawn anew around the trends of
# two trainings from scratch, the epoch at which a plain curve first meets its target moves by 7 to 11 (one standard
# deviation) of 40 and 60, and is 5 to 18 early in the mean; with two to either side it moves by 5 to 6.
HALF_WINDOW = 2
# Of so many epochs a window must be a small part.
EPOCHS_PER_NEIGHBOUR = 16


def epochs_to_target(curves: Mapping[str, Mapping[int, Sequence[Mapping]]], num_images: int, *, of: str) -> dict | None:
    """When each arm reaches the kNN score that the arm `of` ends with.

    The score that it ends with is the mean over its last `window` epochs, and an arm is there at the first epoch of
    which the mean over as many, it in their midst, is as high. Each run is compared with the run of `of` on the same
    seed. The speed-up is the mean epoch at which `of` itself first has that score over that of the arm: an early peak
    of `of` does not count for the arm.

    Args:
      curves: arm -> seed -> rows of `metrics.jsonl`, epoch 0 first.
      num_images: of an epoch.
      of: the arm that sets the target.

    Returns:
      target (mean over seeds), seeds, targets (one a seed), of, metric, window and rows of arm, epochs and minutes (one
      a seed, None where the target was not reached), speedup (None where a seed did not reach it, or all did before the
      first epoch) and speedup_interval (of 95 % over seeds; None of one seed); None where `of` has no scores.
    """
    held = {seed: rows for seed, rows in curves.get(of, {}).items() if _scores(rows)}
    if not held:
        return None
    half = min(HALF_WINDOW, min(len(_scores(rows)) - 1 for rows in held.values()) // EPOCHS_PER_NEIGHBOUR)
    window = 2 * half + 1
    targets = {seed: float(np.mean([score for _, score in _scores(rows)[-window:]])) for seed, rows in held.items()}
    found = {
        # A seed whose run failed says nothing about the arm.
        arm: {seed: first_epoch(by_seed[seed], target, half) for seed, target in targets.items() if seed in by_seed}
        for arm, by_seed in curves.items()
    }
    rows = []
    for arm, epochs in found.items():
        minutes = [
            None if epoch is None else minutes_of(curves[arm][seed], num_images, until=epoch)
            for seed, epoch in epochs.items()
        ]
        speedup, interval = _speedup([found[of][seed] for seed in epochs], list(epochs.values()))
        faster = {"speedup": speedup, "speedup_interval": interval}
        rows.append({"arm": arm, "epochs": list(epochs.values()), "minutes": minutes, **faster})
    known = {"seeds": list(targets), "targets": list(targets.values()), "of": of, "metric": METRIC, "window": window}
    return {"target": float(np.mean(known["targets"])), **known, "rows": rows}


def first_epoch(rows: Sequence[Mapping], target: float, half_window: int = 0) -> int | None:
    """The first epoch about which the mean score is at least `target`; 0, before training, where the next is too."""
    return next((epoch for epoch, score in _smoothed(_scores(rows), half_window) if score >= target), None)


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


def _smoothed(scores: list[tuple[int, float]], half_window: int) -> list[tuple[int, float]]:
    """Each epoch's score with its neighbours', of which there are fewer at the ends.

    Epoch 0 is no neighbour, since much can change in the first epoch of training; its own is a single score, and counts
    for no more than what the first epochs of training hold.
    """
    trained = [score for epoch, score in scores if epoch]
    means = [
        float(np.mean(trained[max(0, place - half_window) : place + half_window + 1])) for place in range(len(trained))
    ]
    epochs = [epoch for epoch, _ in scores if epoch]
    start = [(0, min([score, *means[:1]])) for epoch, score in scores if not epoch]
    return [*start, *zip(epochs, means)]


def _speedup(of: Sequence[int | None], epochs: Sequence[int | None]) -> tuple[float | None, list[float] | None]:
    """Ratio of the means, and its 95 % interval over seeds by Student's t on its logarithm (delta method)."""
    if None in epochs or not sum(epochs):  # also where there is no run
        return None, None
    ratio, num_seeds = float(np.mean(of) / np.mean(epochs)), len(epochs)
    if num_seeds < 2 or not ratio:
        return ratio, None
    from scipy.stats import t

    relative = np.array(of) / np.mean(of) - np.array(epochs) / np.mean(epochs)
    margin = t.ppf(0.975, num_seeds - 1) * float(np.sqrt(np.sum(relative**2) / (num_seeds * (num_seeds - 1))))
    return ratio, [float(ratio * np.exp(-margin)), float(ratio * np.exp(margin))]
