"""A whole network and a linear head trained on few labels: what a self-supervised encoder has to beat."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.evaluation.metrics import balanced_accuracy
from bitkeras.files import written_atomically
from bitkeras.methods.supervised import Supervised

_ARRAYS = ("score", "epoch", "kernel", "bias", "history", "seconds")


@dataclasses.dataclass
class Best:
    """The last epoch with the highest validation score.

    Attributes:
      score: balanced accuracy on the validation part; -1 before the first epoch.
      epoch: counted from 1.
      weights: of the encoder.
      kernel, bias: of the head, float32 [D, K] and [K].
      history: the score after each epoch.
      seconds: that all epochs took.
    """

    score: float = -1.0
    epoch: int = 0
    weights: list[np.ndarray] = dataclasses.field(default_factory=list)
    kernel: np.ndarray | None = None
    bias: np.ndarray | None = None
    history: list[float] = dataclasses.field(default_factory=list)
    seconds: float = 0.0


def save_best(best: Best, path: str | Path) -> None:
    """Writes a .npz, whole or not at all."""
    with written_atomically(path) as beside:
        np.savez(beside, *best.weights, **{name: getattr(best, name) for name in _ARRAYS})


def load_best(path: str | Path) -> Best:
    """What `save_best` wrote."""
    with np.load(path) as arrays:
        weights = [arrays[f"arr_{index}"] for index in range(len(arrays.files) - len(_ARRAYS))]
        return Best(
            score=float(arrays["score"]),
            epoch=int(arrays["epoch"]),
            weights=weights,
            kernel=arrays["kernel"],
            bias=arrays["bias"],
            history=arrays["history"].tolist(),
            seconds=float(arrays["seconds"]),
        )


def classifier_of(encoder: tf.keras.Model, num_classes: int) -> tf.keras.Model:
    """The encoder with a linear head that starts at zero (arXiv 1912.11370, section 3.3) -> logits, float32 [B, K]."""
    head = tf.keras.layers.Dense(num_classes, kernel_initializer="zeros", dtype="float32", name="head")
    return tf.keras.Model(encoder.input, head(encoder.output), name="classifier")


class Choosing(tf.keras.callbacks.Callback):
    """Scores the network on the validation part after each epoch, and keeps the best.

    Args:
      classifier: as `classifier_of` makes it.
      encoder: the part of it that is kept.
      images: of the validation part, batches float32 [B, S, S, 3]; read once an epoch.
      labels: int [N].
      tell: called after each epoch with (epoch from 1, loss, score, whether it is the best).
    """

    def __init__(
        self,
        classifier: tf.keras.Model,
        encoder: tf.keras.Model,
        *,
        images: tf.data.Dataset,
        labels: np.ndarray,
        tell: Callable[[int, float, float, bool], None],
    ):
        super().__init__()
        self.best = Best()
        self._classifier, self._encoder, self._images, self._labels, self._tell = (
            *(classifier, encoder, images),
            *(labels, tell),
        )

    def on_epoch_end(self, epoch, logs=None):
        """Scores and keeps."""
        logits = np.concatenate([self._classifier(batch, training=False).numpy() for batch in self._images])
        # A network that has run away names the first class of all.
        score = balanced_accuracy(self._labels, np.nan_to_num(logits).argmax(axis=1))
        self.best.history.append(score)
        # Of equal ones the later: small validation parts have many, and the first is the one that learnt least.
        is_best = score >= self.best.score
        if is_best:
            kernel, bias = self._classifier.get_layer("head").get_weights()
            self.best = dataclasses.replace(
                self.best, score=score, epoch=epoch + 1, weights=self._encoder.get_weights(), kernel=kernel, bias=bias
            )
        self._tell(epoch + 1, float((logs or {}).get("loss", np.nan)), score, is_best)


def finetune(
    classifier: tf.keras.Model,
    encoder: tf.keras.Model,
    batches: tf.data.Dataset,
    *,
    optimizer: tf.keras.optimizers.Optimizer,
    num_epochs: int,
    steps_per_epoch: int,
    weight_decay: float,
    class_weights: np.ndarray | None,
    choosing: Choosing,
) -> Best:
    """Trains `classifier` and returns its best epoch.

    Args:
      classifier, encoder: as `Choosing` takes them.
      batches: endless, of {images, labels}.
      optimizer: with its schedule.
      num_epochs, steps_per_epoch: how long.
      weight_decay, class_weights: as in `Supervised`.
      choosing: what looks at the network.
    """
    trainer = Supervised(classifier, weight_decay=weight_decay, class_weights=class_weights)
    trainer.compile(optimizer=optimizer)
    trainer.fit(batches, epochs=num_epochs, steps_per_epoch=steps_per_epoch, callbacks=[choosing], verbose=0)
    return choosing.best
