"""The retention report: what is left after the swap of what the weights knew, without any training."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from bitkeras.backbones.stages import stage_features
from bitkeras.data import ImageSource
from bitkeras.data.splits import Split
from bitkeras.evaluation.features import encode
from bitkeras.evaluation.knn import knn_balanced_accuracy
from bitkeras.evaluation.retention import compare_stages, retention_table
from pipelines.encoders import Start, shuffled, whole_images
from pipelines.starting_point import swap_of

NUM_IMAGES = 512


def measure_retention(start: Start, config: dict, source: ImageSource, split: Split) -> dict:
    """Likeness of the stages before and after the swap, and kNN where there are labels.

    The stages see images of the pre-training part, the last of the shuffled ones, so that calibration, which takes the
    first, has not seen them where there are enough. Neighbours of probe_val are looked for in probe_train; the
    test part is never looked at.

    Returns:
      swap (the flags), num_images, stages (as `compare_stages`), and with labels knn_balanced_accuracy: before, after
      (None where the features are not finite), k, num_bank, num_queries, chance.
    """
    indices = shuffled(split.indices("pretrain"), config)[-NUM_IMAGES:]
    features = [
        stage_features(network, whole_images(source, indices, config)) for network in (start.original, start.encoder)
    ]
    report = {"swap": dataclasses.asdict(swap_of(config)), "num_images": len(indices)}
    report["stages"] = compare_stages(*features)
    if source.labels is not None:
        report["knn_balanced_accuracy"] = _neighbours(start, config, source, split)
    return report


def retention_lines(report: dict) -> list[str]:
    """The report as a table to print."""
    swap = " ".join(f"--{flag}={value}" for flag, value in report["swap"].items())
    lines = [f"retention after {swap}, on {report['num_images']} unlabelled images (not finite or constant: no number)"]
    lines += retention_table(report["stages"])
    knn = report.get("knn_balanced_accuracy")
    if knn:
        before, after = ("not finite" if knn[when] is None else f"{knn[when]:.3f}" for when in ("before", "after"))
        lines.append(f"  kNN balanced accuracy {before} before, {after} after (chance {knn['chance']:.3f})")
    return lines


def _neighbours(start: Start, config: dict, source: ImageSource, split: Split) -> dict:
    bank, queries = split.indices("probe_train"), split.indices("probe_val")

    def score(network: tf.keras.Model) -> float | None:
        try:
            features = [encode(network, whole_images(source, part, config)) for part in (bank, queries)]
        except FloatingPointError:
            return None
        return knn_balanced_accuracy(
            features[0],
            source.labels[bank],
            features[1],
            source.labels[queries],
            num_classes=len(source.class_names),
            k=config["knn_k"],
            temperature=config["knn_temperature"],
        )

    scores = {"before": score(start.original), "after": score(start.encoder)}
    sizes = {"k": config["knn_k"], "num_bank": len(bank), "num_queries": len(queries)}
    return {**scores, **sizes, "chance": 1 / len(source.class_names)}
