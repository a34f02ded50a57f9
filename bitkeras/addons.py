"""What bitkeras takes from tensorflow-addons, in one place.

TensorFlow Addons ended with 0.23; on a newer TensorFlow without it, this module is what has to change.
"""

from __future__ import annotations

import tensorflow as tf

from bitkeras.errors import UserError


def _tensorflow_addons():
    import warnings

    try:
        with warnings.catch_warnings():
            # Addons says at every import that it has ended; the constraints file pins what was tested.
            warnings.simplefilter("ignore")
            import tensorflow_addons
    except ImportError as error:
        raise UserError(
            f"tensorflow-addons cannot be imported ({error}); constraints.txt names the one for TensorFlow 2.15."
        ) from error
    return tensorflow_addons


def progress_bar(num_epochs: int, *, epochs_done: int = 0) -> tf.keras.callbacks.Callback:
    """A bar over all epochs with an ETA and one for the running epoch, for terminals.

    Args:
      num_epochs: of the whole run.
      epochs_done: of an earlier run that this one goes on with.

    Returns:
      A callback for one `fit` after another, which has a `close` for a training that ends with an error.
    """

    class ProgressBar(_tensorflow_addons().callbacks.TQDMProgressBar):
        # Else Keras waits for each step's numbers.
        _supports_tf_logs = True

        def on_train_begin(self, logs=None):
            super().on_train_begin(logs)
            bar = self.overall_progress_tqdm
            # `initial` keeps epochs that took no time here out of the rate.
            bar.total, bar.initial, bar.n = num_epochs, self.epochs_done, self.epochs_done

        def on_batch_end(self, batch, logs=None):
            self.newest = logs
            # Without the numbers: Addons would add them up after each step, and show means of running means.
            super().on_batch_end(batch, {})

        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            self.epochs_done = epoch + 1

        def format_metrics(self, logs=None, factor=1):
            # Called twice a second; all else is in the line of the epoch.
            return f"loss {float(self.newest['loss']):.4f}"

        def close(self):
            for bar in (self.epoch_progress_tqdm, self.overall_progress_tqdm):
                if bar is not None:
                    bar.close()

    bar = ProgressBar(leave_epoch_progress=False, update_per_second=2)
    bar.epochs_done = epochs_done
    return bar


def write_above_bar(line: str) -> None:
    """Prints `line` without cutting through the bars."""
    from tqdm import tqdm

    tqdm.write(line)


def lamb(learning_rate, *, weight_decay: float) -> tf.keras.optimizers.Optimizer:
    """LAMB (You et al. 2020), for batches of thousands, where SGD's scaled rate diverges."""

    class Lamb(_tensorflow_addons().optimizers.LAMB):
        """Addons builds on Keras's former optimizers; what callers ask of the present ones is added here."""

        def build(self, variables):
            self._create_all_weights(variables)

        @property
        def learning_rate(self):
            return self._decayed_lr(tf.float32)

    return Lamb(learning_rate=learning_rate, weight_decay=weight_decay)
