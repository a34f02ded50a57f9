"""How fast it goes and how long it takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf


class Throughput(tf.keras.callbacks.Callback):
    """Adds `images_per_second` of the epoch's training alone; stands before every other callback.

    Args:
      batch_size: images a step; each gives two views.
    """

    def __init__(self, batch_size: int):
        super().__init__()
        self.batch_size = batch_size

    def on_epoch_begin(self, epoch, logs=None):
        """Starts the clock."""
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Stops it."""
        images = self.params["steps"] * self.batch_size
        logs["images_per_second"] = images / (time.perf_counter() - self.started)


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

        return [PlainProgress(num_epochs, write=write_above_bar), progress_bar(num_epochs, epochs_done=epochs_done)]
    return [PlainProgress(num_epochs)]


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(np.ceil(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
