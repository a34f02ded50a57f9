"""Where the time of some steps goes, operation by operation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from bitkeras.errors import UserError


def read_profile_steps(text: str | None) -> tuple[int, int] | None:
    """`--profile_steps`: "100,110" -> (100, 110), and None -> None.

    Raises:
      UserError: the text is anything else.
    """
    if text is None:
        return None
    numbers = [int(part) for part in text.split(",") if part.strip().isdecimal()]
    if text.count(",") != 1 or len(numbers) != 2 or not 1 <= numbers[0] < numbers[1]:
        raise UserError(
            f"--profile_steps={text} is not two whole numbers, the first smaller; pass the first and the last step to "
            "profile, counted from 1 over the whole run, as in --profile_steps=100,110."
        )
    return numbers[0], numbers[1]


class StepProfile(tf.keras.callbacks.Callback):
    """Profiles the steps from `first` to `last`, both included, or those of them that the run has.

    Stands first among the callbacks, so that the end of an epoch stops the profile before anything is measured. The
    steps are counted here: reading the optimizer's count would wait for the device at every step.

    To look at it takes the package tensorboard-plugin-profile beside TensorBoard.

    Args:
      folder: of a TensorBoard run, with event files in it: the package looks for profiles nowhere else.
      steps: (first, last), counted from 1 over the whole run.
      steps_per_epoch: steps of one epoch.
      say: told where the profile is, or why there is none.
    """

    _supports_tf_logs = True

    def __init__(
        self,
        folder: str | Path,
        steps: tuple[int, int],
        *,
        steps_per_epoch: int,
        say: Callable[[str], None] = print,
    ):
        super().__init__()
        self.folder, self.steps_per_epoch, self.say = Path(folder), steps_per_epoch, say
        self.first, self.last = steps
        self.is_running = self.is_over = False

    def on_epoch_begin(self, epoch, logs=None):
        """Counts the steps of an epoch, from its middle where a stopped run goes on."""
        self.before = (epoch + 1) * self.steps_per_epoch - self.params["steps"]
        self.done = self.before
        self._start_if_next()

    def on_train_batch_begin(self, batch, logs=None):
        """Stops here and not at the end of the step before, whose mark in the profile ends after its callbacks."""
        self._stop_if_done()

    def on_train_batch_end(self, batch, logs=None):
        """Starts before the mark of the step to come."""
        self.done = self.before + batch + 1
        self._start_if_next()

    def on_epoch_end(self, epoch, logs=None):
        """Leaves what is measured between two epochs out, where nothing is to follow."""
        self._stop_if_done()

    def on_train_end(self, logs=None):
        """A run that is shorter than asked for has a shorter profile."""
        self.stop()

    def stop(self) -> None:
        """Ends a profile that is running, and writes it; for a training that ended in an exception, too."""
        if not self.is_running:
            return
        self.is_running, self.is_over = False, True
        self._wait()
        try:
            tf.profiler.experimental.stop()
        except tf.errors.OpError as error:
            self.say(f"the profile could not be written ({error.message})")
            return
        self.say(f"profiled steps {self.started_at} to {self.done}, in {self.folder / 'plugins' / 'profile'}")

    def _start_if_next(self):
        if self.is_running or self.is_over or not self.first <= self.done + 1 <= self.last:
            return
        self._wait()
        try:
            tf.profiler.experimental.start(str(self.folder))
        except tf.errors.OpError as error:
            # A picture of the speed is not worth a run.
            self.is_over = True
            self.say(f"steps {self.first} to {self.last} are not profiled ({error.message})")
            return
        self.is_running, self.started_at = True, self.done + 1

    def _stop_if_done(self):
        if self.is_running and self.done >= self.last:
            self.stop()

    def _wait(self):
        # The device may be steps behind Python.
        self.model.optimizer.iterations.numpy()
