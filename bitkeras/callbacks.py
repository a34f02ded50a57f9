"""What happens at the end of an epoch: measure, write down, draw, keep, tell."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.errors import UserError
from bitkeras.evaluation.collapse import feature_spread
from bitkeras.evaluation.features import encode
from bitkeras.evaluation.knn import knn_balanced_accuracy
from bitkeras.evaluation.metrics import accuracy
from bitkeras.runs import RunFolder


class Throughput(tf.keras.callbacks.Callback):
    """Adds `images_per_second` of the epoch's training alone; stands before every other callback.

    Args:
      images_per_epoch: images that one epoch trains on; each gives two views.
    """

    def __init__(self, images_per_epoch: int):
        super().__init__()
        self.images_per_epoch = images_per_epoch

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Stops it."""
        logs["images_per_second"] = self.images_per_epoch / (time.perf_counter() - self.started)


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
            raise _diverged(epoch, f"the features became infinite or NaN, with a loss of {logs['loss']}") from error

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
                raise _diverged(epoch, f"the logits became infinite or NaN, with a loss of {logs['loss']}") from error
            logs["test_accuracy"] = accuracy(self.labels, logits.argmax(axis=1))


class RunLog(tf.keras.callbacks.Callback):
    """Writes each epoch's numbers to `metrics.jsonl` and to TensorBoard.

    TensorBoard draws the chance level in the chart of the kNN accuracy: same tag, in a run named `chance`.
    """

    TAGS = {
        "loss": "train/loss",
        "lr": "train/learning_rate",
        "images_per_second": "train/images_per_second",
        "knn_balanced_accuracy": "knn/balanced_accuracy",
        "test_accuracy": "test/accuracy",
    }

    def __init__(self, run: RunFolder):
        super().__init__()
        self.run = run
        self.writer = tf.summary.create_file_writer(str(run.tensorboard_path / "pretrain"))
        self.chance_writer = tf.summary.create_file_writer(str(run.tensorboard_path / "chance"))

    def on_epoch_end(self, epoch, logs=None):
        """Stops the run on a loss or a weight that is no number, else records the epoch."""
        if not math.isfinite(logs["loss"]):
            raise _diverged(epoch, f"the loss became {logs['loss']}")
        # On a processor ReLU turns NaN into 0: a dead network can show a finite loss and finite features.
        dead = [v.name for v in self.model.trainable_variables if not tf.reduce_all(tf.math.is_finite(v))]
        if dead:
            raise _diverged(epoch, f"the weights became infinite or NaN ({len(dead)} variables, the first {dead[0]})")
        logs["lr"] = float(self.model.optimizer.learning_rate)
        self.record(epoch + 1, logs)

    def record(self, epoch: int, numbers: dict[str, float]) -> None:
        """One row and one point for each number; epoch 0 is before training."""
        numbers = {name: float(value) for name, value in numbers.items()}
        self.run.append_metrics({"epoch": epoch, **numbers})
        with self.writer.as_default(step=epoch):
            for name, value in numbers.items():
                if name not in ("knn_chance", "num_images"):
                    tf.summary.scalar(self.TAGS.get(name, f"features/{name}"), value)
        if "knn_chance" in numbers:
            with self.chance_writer.as_default(step=epoch):
                tf.summary.scalar(self.TAGS["knn_balanced_accuracy"], numbers["knn_chance"])
        self.writer.flush()
        self.chance_writer.flush()

    def draw_views(self, batch: dict[str, tf.Tensor], *, num_pairs: int = 8) -> None:
        """A grid of view pairs, one pair a row; what the network is told are the same thing."""
        pairs = tf.concat([batch["views_a"][:num_pairs], batch["views_b"][:num_pairs]], axis=2)
        grid = tf.concat(tf.unstack(tf.cast(pairs, tf.float32)), axis=0)
        with self.writer.as_default(step=0):
            tf.summary.image("views/pairs", grid[tf.newaxis] / 2 + 0.5)
        self.writer.flush()


class EpochCheckpoint(tf.keras.callbacks.Callback):
    """Keeps weights, optimizer and epoch after every epoch, the newest two, and goes on from the newest.

    Args:
      model: a compiled trainer whose variables exist.
      folder: where the checkpoints lie.
    """

    def __init__(self, model: tf.keras.Model, folder: Path):
        super().__init__()
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        # The loss scale around a former Keras optimizer, such as Addons', has no `build`; what is in it has.
        getattr(model.optimizer, "inner_optimizer", model.optimizer).build(model.trainable_variables)
        checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, epoch=self.epoch)
        self.manager = tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=2)

    def restore(self) -> int:
        """Loads the newest checkpoint; returns how many epochs are done, 0 where there is none."""
        # Not `latest_checkpoint`: it still names one whose files were deleted.
        kept = [path for path in self.manager.checkpoints if Path(f"{path}.index").is_file()]
        if not kept:
            return 0
        newest = kept[-1]
        try:
            self.manager.checkpoint.restore(newest).assert_existing_objects_matched()
        # IndexError and RuntimeError are what a cut-off file raises below TensorFlow's own exceptions.
        except (AssertionError, ValueError, IndexError, RuntimeError, tf.errors.OpError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"The checkpoint {newest} cannot be restored ({reason}); delete its files to go on from the one before."
            ) from error
        return int(self.epoch)

    def on_epoch_end(self, epoch, logs=None):
        """Writes the checkpoint; the one before stays until this one is complete."""
        self.epoch.assign(epoch + 1)
        try:
            self.manager.save()
        except tf.errors.OpError as error:
            raise UserError(
                f"The checkpoint of epoch {epoch + 1} could not be written ({error.message}); the one before is kept. "
                "Make room or access and run the same command again."
            ) from error


class PlainProgress(tf.keras.callbacks.Callback):
    """One line an epoch, with the time that is left."""

    def __init__(self, num_epochs: int, *, write: Callable[[str], None] = print):
        super().__init__()
        self.num_epochs, self.write = num_epochs, write

    def on_train_begin(self, logs=None):
        """Starts the clock."""
        self.started, self.epochs_done = time.perf_counter(), 0

    def on_epoch_end(self, epoch, logs=None):
        """Writes the line."""
        self.epochs_done += 1
        left = (time.perf_counter() - self.started) / self.epochs_done * (self.num_epochs - epoch - 1)
        parts = [f"epoch {epoch + 1}/{self.num_epochs}", f"loss {logs['loss']:.4f}"]
        if "knn_balanced_accuracy" in logs:
            parts.append(f"kNN {logs['knn_balanced_accuracy']:.3f} (chance {logs['knn_chance']:.3f})")
        if "mean_pairwise_cosine" in logs:
            parts.append(f"cosine {logs['mean_pairwise_cosine']:.3f}")
        if "test_accuracy" in logs:
            parts.append(f"test accuracy {logs['test_accuracy']:.4f}")
        parts.append(f"{logs['images_per_second']:.0f} images/s")
        self.write("  ".join([*parts, f"{_duration(left)} left"]))


def make_progress(num_epochs: int, *, epochs_done: int = 0) -> list[tf.keras.callbacks.Callback]:
    """Lines, one an epoch, and on a terminal a bar below them; `epochs_done` are those of an earlier run."""
    if sys.stderr.isatty() and sys.stdout.isatty():
        from bitkeras.addons import progress_bar, write_above_bar

        return [PlainProgress(num_epochs, write=write_above_bar), progress_bar(epochs_done=epochs_done)]
    return [PlainProgress(num_epochs)]


def _diverged(epoch: int, what: str) -> UserError:
    kept = f"the checkpoint of epoch {epoch} is kept" if epoch else "there is no checkpoint yet"
    return UserError(
        f"In epoch {epoch + 1} {what}; {kept}. Start again in a new --run_dir with a lower --base_lr or with "
        "--precision=float32."
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(np.ceil(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
