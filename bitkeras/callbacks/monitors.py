"""What the network is worth on held-out images, measured after every epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from bitkeras.callbacks.divergence import diverged
from bitkeras.evaluation.collapse import alignment, feature_spread, projector_spread
from bitkeras.evaluation.features import encode
from bitkeras.evaluation.knn import knn_balanced_accuracy
from bitkeras.evaluation.metrics import accuracy

# Images whose projections are looked at: enough for the rank of a collapse, a small share of a large projector's cost.
PROJECTED_IMAGES = 256


class FeatureMonitor(tf.keras.callbacks.Callback):
    """Adds kNN balanced accuracy and the figures of collapse, from one pass over held-out images.

    The features are those before the projector: the projector ends in a BN, whose output has full spread even when
    the features are one point. What is read from the data sets is kept in memory, so that from the second epoch on
    the pass costs the encoder's forward pass and nothing else.

    Args:
      encoder: images -> features.
      queries: batches of held-out images.
      bank: batches of labelled images, or None where nothing is labelled.
      bank_labels, query_labels: int32 [N], [M].
      num_classes: K.
      k, temperature: of the weighted kNN.
      view_pairs: batches of `views_a` and `views_b` of held-out images, always the same ones, for the alignment; a
        dict of arrays is one batch; None for no alignment.
      projector: features -> projections, or None; it runs on the features of the first queries, with the running
        statistics, so that measuring changes nothing.
      max_bytes: how much memory the images of one data set may take, as float16; one that needs more is read anew
        in each epoch.
    """

    def __init__(
        self,
        encoder: tf.keras.Model,
        *,
        queries: Iterable,
        bank: Iterable | None = None,
        bank_labels: np.ndarray | None = None,
        query_labels: np.ndarray | None = None,
        num_classes: int = 0,
        k: int = 200,
        temperature: float = 0.07,
        view_pairs: Mapping | Iterable[Mapping] | None = None,
        projector: tf.keras.Model | None = None,
        max_bytes: int = 2**29,
    ):
        super().__init__()
        self.encoder, self.queries = encoder, KeptImages(queries, max_bytes=max_bytes)
        self.bank = None if bank is None else KeptImages(bank, max_bytes=max_bytes)
        self.bank_labels, self.query_labels, self.num_classes = bank_labels, query_labels, num_classes
        self.k, self.temperature = k, temperature
        self.views = None if view_pairs is None else KeptImages(_BothViews(view_pairs), max_bytes=max_bytes)
        self.projector = projector

    def on_epoch_end(self, epoch, logs=None):
        """Measures; stops the run on features that are no numbers."""
        try:
            logs.update(self.measure())
        except FloatingPointError as error:
            raise diverged(epoch, f"the features became infinite or NaN, with a loss of {logs['loss']}") from error

    def measure(self) -> dict[str, float]:
        """Names -> numbers, as in `metrics.jsonl`."""
        query_features = encode(self.encoder, self.queries)
        numbers = feature_spread(query_features)
        if self.views is not None:
            view_features = encode(self.encoder, self.views)
            numbers["alignment"] = alignment(view_features[0::2], view_features[1::2])
        if self.projector is not None:
            numbers.update(projector_spread(encode(self.projector, [query_features[:PROJECTED_IMAGES]])))
        if self.bank is not None:
            numbers.update(self._knn(query_features))
        return numbers

    def _knn(self, query_features: np.ndarray) -> dict[str, float]:
        score = knn_balanced_accuracy(
            encode(self.encoder, self.bank),
            self.bank_labels,
            query_features,
            self.query_labels,
            num_classes=self.num_classes,
            k=self.k,
            temperature=self.temperature,
        )
        return {"knn_balanced_accuracy": score, "knn_chance": 1 / self.num_classes}


class KeptImages:
    """Batches of images that are read once and then come from memory.

    Decoding and resizing cost more than a small encoder does. They are held as float16, which is 30 times finer than
    the grey levels they come from, and come out as float32 in the first pass as in the others.

    Args:
      batches: images, [B, H, W, 3] in [-1, 1].
      max_bytes: what may be held; of more nothing is.
    """

    def __init__(self, batches: Iterable, *, max_bytes: int):
        self.batches, self.max_bytes, self.held = batches, max_bytes, None

    def __iter__(self) -> Iterator[np.ndarray]:
        for batch in self._read() if self.held is None else self.held:
            yield batch.astype(np.float32)

    def _read(self) -> Iterator[np.ndarray]:
        held, size = [], 0
        for batch in self.batches:
            half = np.asarray(batch).astype(np.float16)
            size += half.nbytes
            held = [*held, half] if size <= self.max_bytes else []
            yield half
        if size <= self.max_bytes:
            self.held = held


class _BothViews:
    """Batches of pairs as batches of images, [2 B, H, W, 3], with the two views of an image behind each other."""

    def __init__(self, pairs: Mapping | Iterable[Mapping]):
        self.pairs = [pairs] if isinstance(pairs, Mapping) else pairs

    def __iter__(self) -> Iterator[np.ndarray]:
        for pair in self.pairs:
            views = np.stack([pair["views_a"], pair["views_b"]], axis=1)
            yield views.reshape(-1, *views.shape[2:])


def evenly(indices: np.ndarray, limit: int) -> np.ndarray:
    """At most `limit` of `indices`, evenly spaced over them: an order by class keeps its proportions."""
    if len(indices) <= limit:
        return indices
    return indices[np.linspace(0, len(indices) - 1, limit).round().astype(int)]


class AccuracyMonitor(tf.keras.callbacks.Callback):
    """Adds the share of right answers on held-out images, every few epochs and after the last.

    Args:
      classifier: images -> logits.
      images: batches of held-out images.
      labels: int32 [N].
      num_epochs: of the whole run.
      every: epochs between measurements.
    """

    def __init__(self, classifier: tf.keras.Model, *, images, labels: np.ndarray, num_epochs: int, every: int = 5):
        super().__init__()
        self.classifier, self.images, self.labels = classifier, images, labels
        self.num_epochs, self.every = num_epochs, every

    def on_epoch_end(self, epoch, logs=None):
        """Measures when it is time."""
        if (epoch + 1) % self.every == 0 or epoch + 1 == self.num_epochs:
            try:
                logits = encode(self.classifier, self.images)
            except FloatingPointError as error:
                raise diverged(epoch, f"the logits became infinite or NaN, with a loss of {logs['loss']}") from error
            logs["test_accuracy"] = accuracy(self.labels, logits.argmax(axis=1))
