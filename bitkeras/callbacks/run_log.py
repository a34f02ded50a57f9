"""The numbers of a run: `metrics.jsonl` and TensorBoard."""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from bitkeras.callbacks.divergence import diverged, require_finite_weights
from bitkeras.evaluation.verdict import Verdict
from bitkeras.runs import RunFolder


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
        "verdict": "collapse/verdict",
        "rollbacks": "collapse/rollbacks",
    }

    def __init__(self, run: RunFolder):
        super().__init__()
        self.run = run
        self.writer = tf.summary.create_file_writer(str(run.tensorboard_path / "pretrain"))
        self.chance_writer = tf.summary.create_file_writer(str(run.tensorboard_path / "chance"))

    def on_epoch_end(self, epoch, logs=None):
        """Stops the run on a loss or a weight that is no number, else records the epoch."""
        if not math.isfinite(logs["loss"]):
            raise diverged(epoch, f"the loss became {logs['loss']}")
        require_finite_weights(epoch, self.model)
        logs["lr"] = float(tf.convert_to_tensor(self.model.optimizer.learning_rate))
        self.record(epoch + 1, logs)

    def record(self, epoch: int, numbers: dict[str, float | Verdict]) -> None:
        """One row and one point for each number, and the verdict in words; epoch 0 is before training."""
        found = numbers.get("verdict")
        numbers = {name: float(value) for name, value in numbers.items() if name != "verdict"}
        words = {"verdict": found.name, "evidence": found.evidence} if found else {}
        self.run.append_metrics({"epoch": epoch, **numbers, **words})
        with self.writer.as_default(step=epoch):
            if found:
                numbers["verdict"] = float(found.code)
                tf.summary.text("collapse/evidence", "; ".join(filter(None, dataclasses.astuple(found))))
            for name, value in numbers.items():
                if name != "knn_chance":
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
