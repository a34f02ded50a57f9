"""What the network is worth on held-out images, measured after every epoch."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from bitkeras.callbacks.divergence import diverged
from bitkeras.evaluation.collapse import feature_spread
from bitkeras.evaluation.features import encode
from bitkeras.evaluation.knn import knn_balanced_accuracy
from bitkeras.evaluation.metrics import accuracy


class FeatureMonitor(tf.keras.callbacks.Callback):
    """Adds kNN balanced accuracy and the spread of the backbone's features, from one pass over held-out images.

    The features are those before the projector: the projector ends in a BN, whose output has full spread even when
    the features are one point.

    Args:
      encoder: images -> features.
      queries: batches of held-out images.
      bank: batches of labelled images, or None where nothing is labelled.
      bank_labels, query_labels: int32 [N], [M].
      num_classes: K.
      k, temperature: of the weighted kNN.
    """

    def __init__(
        self,
        encoder,
        *,
        queries,
        bank=None,
        bank_labels=None,
        query_labels=None,
        num_classes=0,
        k=200,
        temperature=0.07,
    ):
        super().__init__()
        self.encoder, self.queries, self.bank = encoder, queries, bank
        self.bank_labels, self.query_labels, self.num_classes = bank_labels, query_labels, num_classes
        self.k, self.temperature = k, temperature

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
        if self.bank is not None:
            numbers["knn_balanced_accuracy"] = knn_balanced_accuracy(
                encode(self.encoder, self.bank),
                self.bank_labels,
                query_features,
                self.query_labels,
                num_classes=self.num_classes,
                k=self.k,
                temperature=self.temperature,
            )
            numbers["knn_chance"] = 1 / self.num_classes
        return numbers


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
