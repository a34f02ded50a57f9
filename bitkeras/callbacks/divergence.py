"""Training that has left the numbers: found at its step, and told with what it was made of."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


class Diverged(Exception):
    """Training cannot go on; the text says since when and why."""


def diverged(epoch: int, what: str) -> Diverged:
    """The error that ends a run in `epoch`, counted from 0, since `what` happened."""
    return Diverged(f"In epoch {epoch + 1} {what}")


def require_finite_weights(epoch: int, model: tf.keras.Model) -> None:
    """Raises `Diverged` where a trained weight is NaN or infinite; `epoch` counts from 0."""
    # On a processor ReLU turns NaN into 0: a dead network can show a finite loss and finite features.
    dead = [v.name for v in model.trainable_variables if not tf.reduce_all(tf.math.is_finite(v))]
    if dead:
        raise diverged(epoch, f"the weights became infinite or NaN ({len(dead)} variables, the first {dead[0]})")


class LossGuard(tf.keras.callbacks.Callback):
    """Ends a run soon after a loss that is NaN or infinite, and says at which step that was and on which images.

    The trainer counts on its device the steps before the first such loss (`Trainer.finite_steps`); reading the count
    waits for the device, hence only now and then.

    Args:
      steps_per_epoch: steps of one epoch.
      record: (step, counted from 0) -> where the images of its batch were written down, in words.
      every: steps between looks.
    """

    _supports_tf_logs = True

    def __init__(self, *, steps_per_epoch: int, record: Callable[[int], str], every: int = 20):
        super().__init__()
        self.steps_per_epoch, self.record, self.every = steps_per_epoch, record, every

    def on_epoch_begin(self, epoch, logs=None):
        """Counts the steps of an epoch, from its middle where a stopped run goes on."""
        self.epoch = epoch
        # A run that goes on in the middle of an epoch keeps the epoch's means, and the count with them.
        self.before = self.steps_per_epoch - self.params["steps"]

    def on_train_batch_end(self, batch, logs=None):
        """Looks now and then."""
        if (batch + 1) % self.every == 0:
            self.look(self.before + batch + 1)

    def on_epoch_end(self, epoch, logs=None):
        """Looks before anything of the epoch is measured or kept."""
        self.look(self.steps_per_epoch)

    def require_good(self, step: int) -> None:
        """Raises `Diverged` unless losses and weights are finite after `step` steps of the run."""
        self.look(step - self.epoch * self.steps_per_epoch)
        require_finite_weights(self.epoch, self.model)

    def look(self, done: int) -> None:
        """Raises `Diverged` unless all of the first `done` steps of the epoch had a finite loss."""
        finite = int(self.model.finite_steps.result())
        if finite < done:
            step = self.epoch * self.steps_per_epoch + finite
            raise Diverged(
                f"In step {finite + 1} of {self.steps_per_epoch} of epoch {self.epoch + 1} the loss became NaN or "
                f"infinite, on images that {self.record(step)}"
            )
