"""What a killed run goes on from."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from bitkeras.errors import UserError


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
