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


def progress_bar(*, epochs_done: int = 0) -> tf.keras.callbacks.Callback:
    """A bar over all epochs with an ETA and one for the running epoch, for terminals.

    Args:
      epochs_done: of an earlier run that this one goes on with.
    """

    class ProgressBar(_tensorflow_addons().callbacks.TQDMProgressBar):
        def on_train_begin(self, logs=None):
            super().on_train_begin(logs)
            # `initial` keeps epochs that took no time here out of the rate.
            self.overall_progress_tqdm.initial = self.overall_progress_tqdm.n = epochs_done

    return ProgressBar(leave_epoch_progress=False)


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
