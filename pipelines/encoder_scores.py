"""What every encoder and baseline is asked about the labelled parts of one split."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.backbones.norm_swap import batch_norms
from bitkeras.backbones.pretrained import read_pretrained
from bitkeras.data import ImageSource
from bitkeras.data.batches import image_batches
from bitkeras.data.splits import PARTS, Split
from bitkeras.evaluation.answers import Answers
from bitkeras.evaluation.baselines import (
    colour_histograms,
    histogram_baseline,
    majority_baseline,
    pixel_baseline,
)
from bitkeras.evaluation.feature_cache import FeatureCache, features_key, images_digest
from bitkeras.evaluation.features import encode, frozen
from bitkeras.evaluation.knn import knn_balanced_accuracy
from bitkeras.evaluation.metrics import score_row
from bitkeras.evaluation.novelty import fit_familiar
from bitkeras.evaluation.probe import ProbeResult, probe_probabilities, train_linear_probe
from bitkeras.files import written_atomically
from pipelines.encoders import build_encoder, calibrate, load_start
from pipelines.grids import read_grids
from pipelines.runtime import say
from pipelines.starting_point import swap_of

LABELLED_PARTS = PARTS[1:]
CALIBRATION_IMAGES = 1024
BATCH_SIZE = 64
PIXEL_BASELINE_SIZE = 16


class EncoderScores:
    """Rows of the table of scores, all on the same test images.

    Args:
      config: of the run, as `bitkeras pretrain` recorded it.
      options: of the probe, flag names -> values.
      source: the images, labelled.
      split: their parts.
      cache: where features are kept; None computes them each time.
    """

    def __init__(
        self,
        config: dict,
        options: dict,
        source: ImageSource,
        split: Split,
        *,
        cache: FeatureCache | None = None,
    ):
        self.config, self.options, self.source, self.split, self.cache = config, options, source, split, cache
        self._image_digests = {}
        # Name of a row -> what it answered on the test part.
        self.answers: dict[str, Answers] = {}
        self.indices = {part: split.indices(part) for part in PARTS}
        self.labels = {part: source.labels[self.indices[part]] for part in PARTS}
        self.num_classes = len(source.class_names)
        self.groups = None if source.groups is None else source.groups[self.indices["test"]]

    def batches(self, indices: np.ndarray, *, image_size: int | None = None) -> tf.data.Dataset:
        """Images as they are, float32 [B, S, S, 3] in [-1, 1]; S is the encoder's unless given, px."""
        return image_batches(
            self.source, indices, image_size=image_size or self.config["image_size"], batch_size=BATCH_SIZE
        )

    def features(self, encoder: tf.keras.Model) -> dict[str, np.ndarray]:
        """Part -> float32 [N, D], each image encoded once, or never where the cache has it."""
        with frozen(encoder) as digest:
            return {part: self._part_features(encoder, digest, part) for part in LABELLED_PARTS}

    def _part_features(self, encoder: tf.keras.Model, digest: str, part: str) -> np.ndarray:
        def compute() -> np.ndarray:
            return encode(encoder, self.batches(self.indices[part]))

        if self.cache is None or not self.cache.is_on:
            return compute()
        try:
            if part not in self._image_digests:
                self._image_digests[part] = images_digest(self.source, self.indices[part])
        except (OSError, ValueError):
            # An image has gone bad since it was listed, and who decodes it says which.
            return compute()
        key = features_key(digest, self._image_digests[part], part=part, image_size=self.config["image_size"])
        return self.cache.features(key, compute)

    def probe(self, features: dict[str, np.ndarray]) -> ProbeResult:
        """Linear classifiers on the training part, chosen on the validation part."""
        result = train_linear_probe(
            features["probe_train"],
            self.labels["probe_train"],
            features["probe_val"],
            self.labels["probe_val"],
            num_classes=self.num_classes,
            trials=self.options["trials"],
            epochs=self.options["epochs"],
            focal_gamma=self.options["focal_gamma"],
            class_weights=self.class_weights(),
            seed=self.options["seed"],
            **read_grids(self.options),
        )
        for edge in result.grid_edges:
            say(f"  {edge}; a longer grid may do better")
        return result

    def class_weights(self) -> np.ndarray | None:
        """[K], inverse to a class's share of the training part and 1 on average over its images; None is the paper."""
        if not self.options["balanced"]:
            return None
        counts = np.bincount(self.labels["probe_train"], minlength=self.num_classes)
        return counts.sum() / (np.maximum(counts, 1) * np.count_nonzero(counts))

    def row(self, name: str, features: dict[str, np.ndarray], result: ProbeResult) -> dict:
        """Scores of one encoder: probe by trial, and kNN."""
        knn = knn_balanced_accuracy(
            features["probe_train"],
            self.labels["probe_train"],
            features["test"],
            self.labels["test"],
            num_classes=self.num_classes,
            k=self.options["knn_k"],
            temperature=self.options["knn_temperature"],
        )
        row = self._score(name, probe_probabilities(features["test"], result.kernels, result.biases))
        return {**row, "knn_balanced_accuracy": knn, "val_balanced_accuracy": float(np.mean(result.val_scores))}

    def baseline_rows(self) -> list[dict]:
        """What an encoder has to beat: its own start, random convolutions, raw pixels, colours, the commonest class."""
        rows = self._start_rows()
        random = build_encoder(self.config)
        self._calibrate(random)
        rows.append(self._untrained_row("random encoder", random))
        train, test = (
            np.concatenate(list(self.batches(self.indices[part], image_size=PIXEL_BASELINE_SIZE)))
            for part in ("probe_train", "test")
        )
        pixels = pixel_baseline(train, self.labels["probe_train"], test, seed=self.options["seed"])
        rows.append(self._score("raw pixels, logistic regression", self._certain(pixels)))
        histograms = {part: self._histograms(part) for part in LABELLED_PARTS}
        colours = histogram_baseline(histograms, self.labels, self.num_classes, seed=self.options["seed"])
        rows.append(self._score("colour histograms, logistic regression", colours[np.newaxis]))
        majority = majority_baseline(self.labels["probe_train"], self.labels["test"], self.num_classes)
        rows.append(self._score("majority class", self._certain(majority)))
        return [{**row, "baseline": True} for row in rows]

    def _histograms(self, part: str) -> np.ndarray:
        return np.concatenate([colour_histograms(images.numpy()) for images in self.batches(self.indices[part])])

    def _start_rows(self) -> list[dict]:
        """The network that training started from, as the run's flags swapped it; nothing for random weights."""
        if self.config["weights"] == "none" or self.config["epochs"] == 0:
            return []
        start = load_start(self.config, read_pretrained(self.config["weights"]), self.source, self.indices["pretrain"])
        swap, name = swap_of(self.config), "the same network before pre-training"
        if swap is not None and not swap.bn_calibrate:
            self._calibrate(start.encoder)
            name += ", calibrated"
        return [self._untrained_row(name, start.encoder)]

    def _calibrate(self, encoder: tf.keras.Model) -> None:
        # An untrained BN network has the statistics of no image; without this the baseline would be weaker than it is.
        images = self.indices["pretrain"]
        if batch_norms(encoder):
            size = min(CALIBRATION_IMAGES, len(images))
            calibrate(encoder, self.config, self.source, images, num_images=size)

    def _untrained_row(self, name: str, encoder: tf.keras.Model) -> dict:
        say(f"{name}: features and probe")
        features = self.features(encoder)
        return self.row(name, features, self.probe(features))

    def _certain(self, predictions: np.ndarray) -> np.ndarray:
        """Int [N] -> probabilities [1, N, K] of one trial that is sure of itself."""
        return np.eye(self.num_classes, dtype=np.float32)[predictions][np.newaxis]

    def _score(self, name: str, probabilities: np.ndarray) -> dict:
        """The row of a name, from probabilities [T, N, K]."""
        test = self.indices["test"]
        self.answers[name] = Answers(
            image_ids=self.source.image_ids[test],
            labels=self.labels["test"],
            class_names=tuple(self.source.class_names),
            probabilities=probabilities,
            groups=self.groups,
        )
        predictions = probabilities.argmax(axis=2)
        return score_row(name, self.labels["test"], predictions, groups=self.groups, seed=self.options["seed"])

    def save_probe(self, path: Path, features: dict[str, np.ndarray], result: ProbeResult) -> None:
        """The best trial's classifier, with what a server must know to use it."""
        familiar = fit_familiar(features["probe_train"], features["probe_val"], seed=self.options["seed"])
        with written_atomically(path) as beside:
            np.savez(
                beside,
                kernel=result.kernels[result.best_trial],
                bias=result.biases[result.best_trial],
                references=familiar.references,
                distances=familiar.distances,
                class_names=np.array(self.source.class_names),
                image_size=self.config["image_size"],
            )

    def save_predictions(self, path: Path, probabilities: np.ndarray) -> None:
        """A table: test image, its class, probability of each class."""
        names = self.source.class_names
        with written_atomically(path) as beside, open(beside, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image_id", "class", *(f"probability_{name}" for name in names)])
            for index, row in zip(self.indices["test"], probabilities):
                writer.writerow([self.source.image_ids[index], names[self.source.labels[index]], *row])
