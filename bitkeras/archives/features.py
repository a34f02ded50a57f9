"""A worker that turns the images of a shard into a file of features."""

from __future__ import annotations

import collections
import dataclasses
import io

import numpy as np
import tensorflow as tf

from bitkeras.archives.encoders import Embedder, Encoder
from bitkeras.archives.pictures import Unusable, read_encoded
from bitkeras.archives.shards import Place, read_shard
from bitkeras.archives.stage import Stage
from bitkeras.data import ImageSource
from bitkeras.data.bad_images import reason_of
from bitkeras.data.silencing import decoders_silenced
from bitkeras.errors import UserError


@dataclasses.dataclass
class FeatureWriter:
    """Writes one shard after another; holds a batch of images at a time, and the features of a shard.

    A shard is an `.npz` of `image_ids`, str [n], `features`, float32 [n, D], and with labels `classes`, str [n].

    Attributes:
      stage: where shards and their tables are.
      place: where the images are.
      encoder: what makes the features; loaded once.
      batch_size: images that are encoded together.
      keep_incomplete: keep shards that lack an image, which cannot be used.
    """

    stage: Stage
    place: Place
    encoder: Encoder
    batch_size: int = 32
    keep_incomplete: bool = False

    def __post_init__(self):
        self._embedder = self.encoder.load()

    def __call__(self, shard: str) -> None:
        """Writes the shard of this name.

        Raises:
          UserError: it could not be written, or its features are not finite.
        """
        source, _ = read_shard(self.stage.table_path(shard), self.place)
        # Where no image can be used there are still columns.
        kept, features, bad = [], [np.zeros([0, self._embedder.num_features], np.float32)], []
        for start in range(0, len(source), self.batch_size):
            with decoders_silenced():
                batch = range(start, min(start + self.batch_size, len(source)))
                of_batch, indices, reasons = self._batch(source, batch)
            kept += indices
            features += of_batch
            bad += [[str(source.image_ids[index]), source.location(index), reason] for index, reason in reasons]
        if not bad or self.keep_incomplete:
            self.stage.write_text(shard, _npz(source, kept, np.concatenate(features)))
        classes = [] if source.labels is None else [source.class_names[source.labels[index]] for index in kept]
        report = {"num_images": len(kept), "classes": dict(collections.Counter(classes)), "bad": bad}
        self.stage.write_report(shard, {**report, "num_features": self._embedder.num_features})

    def _batch(self, source: ImageSource, indices: range) -> tuple[list[np.ndarray], list[int], list[tuple[int, str]]]:
        """(features, the images they are of, (image, reason) of those that cannot be used)."""
        encoded, reasons = {}, {}
        for index in indices:
            try:
                encoded[index] = read_encoded(source, index)
            except Unusable as reason:
                reasons[index] = str(reason)
        try:
            return self._encode(encoded), list(encoded), sorted(reasons.items())
        except tf.errors.InvalidArgumentError:
            # The error of a batch does not say which image it was.
            reasons.update(_undecodable(self._embedder, encoded))
        encoded = {index: one for index, one in encoded.items() if index not in reasons}
        return self._encode(encoded), list(encoded), sorted(reasons.items())

    def _encode(self, encoded: dict[int, bytes]) -> list[np.ndarray]:
        if not encoded:
            return []
        features = self._embedder.embed(list(encoded.values()))
        if not np.isfinite(features).all():
            raise UserError(
                f"The encoder {self.encoder.path} gives features that are not finite; if it has batch norm, calibrate "
                "its statistics (`bitkeras pretrain --bn_calibrate`)."
            )
        return [features]


def _undecodable(embedder: Embedder, encoded: dict[int, bytes]) -> dict[int, str]:
    """Image -> reason, for those that do not decode."""
    reasons = {}
    for index, one in encoded.items():
        try:
            embedder.embed([one])
        except tf.errors.InvalidArgumentError as error:
            reasons[index] = reason_of(error)
    return reasons


def _npz(source: ImageSource, kept: list[int], features: np.ndarray) -> bytes:
    arrays = {"image_ids": source.image_ids[kept], "features": features}
    if source.labels is not None:
        arrays["classes"] = np.array(source.class_names)[source.labels[kept]]
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()
