"""Features of runs, snapshots and pushed models for the scripts beside this one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

import bitkeras.backbones  # noqa: F401  its layers are in the files of encoders
from bitkeras.data import ImageSource, read_source
from bitkeras.data.batches import image_batches
from bitkeras.data.split_files import load_split
from bitkeras.data.splits import Split
from bitkeras.evaluation.features import encode
from bitkeras.runs import RunFolder

BATCH_SIZE, CLIP = 128, 10


@dataclasses.dataclass(frozen=True)
class Photographs:
    """The images of a run of `bitkeras pretrain`, in its parts."""

    source: ImageSource
    split: Split
    image_size: int

    @classmethod
    def of(cls, run: RunFolder, data_dir: str) -> Photographs:
        """Those that `run` was given, read from `data_dir`."""
        config = run.config()
        source = read_source(config["dataset"], data_dir)
        return cls(source, load_split(run.split_path, source), config["image_size"])

    def indices(self, parts: Sequence[str]) -> np.ndarray:
        """Of the images of `parts`, one part after the other."""
        return np.concatenate([self.split.indices(part) for part in parts])

    def batches(self, parts: Sequence[str]) -> tf.data.Dataset:
        """Batches of the images of `parts`, float32 [B, S, S, 3] in [-1, 1]."""
        chosen = self.indices(parts)
        return image_batches(self.source, chosen, image_size=self.image_size, batch_size=BATCH_SIZE)


def features_of(
    paths: Sequence[Path], photographs: Photographs, parts: Sequence[Sequence[str]]
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """(name, features float32 [N, D] of each of `parts`) of every encoder.

    Args:
      paths: each a run of `bitkeras pretrain`, a file of its snapshots/, or a version that `bitkeras push` published.
      photographs: what they are asked about, at the size that all of them take.
      parts: groups of parts; an array for each group.
    """
    for path in paths:
        if (path / "saved_model.pb").exists():
            name, asked = path.name, _pushed(path)
        else:
            run = RunFolder(path if path.is_dir() else path.parents[1])
            name = "/".join(path.parts[path.parts.index(run.path.name) :])
            encoder = tf.keras.models.load_model(run.encoder_path if path.is_dir() else path, compile=False)
            asked = lambda batches, encoder=encoder: encode(encoder, batches)  # noqa: E731
        yield name, [asked(photographs.batches(group)) for group in parts]


def _pushed(version: Path):
    pixels = tf.saved_model.load(str(version)).signatures["pixels"]
    return lambda batches: np.concatenate([pixels(images=images)["embedding"].numpy() for images in batches])


def standardised(fit: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """`fit` and `others`, [N, D], by the mean and deviation that each feature has in `fit`."""
    mean, std = fit.mean(axis=0), fit.std(axis=0)
    # What is all but constant on the fitted images says nothing, and a rare far-off value must not rule the line.
    is_alive = std > 1e-3 * std.max()
    scaled = ((features - mean)[:, is_alive] / std[is_alive] for features in (fit, *others))
    return [np.clip(features, -CLIP, CLIP) for features in scaled]
