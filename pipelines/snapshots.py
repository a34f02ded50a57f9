"""The encoder at some epochs on the way, for pictures of how features come to be."""

from __future__ import annotations

import tensorflow as tf

from bitkeras.errors import UserError
from pipelines.encoders import save_encoder
from pipelines.job import Job


def read_epochs(text: str | None, num_epochs: int) -> tuple[int, ...]:
    """The numbers in "1,50".

    Raises:
      UserError: one is no epoch of a run of `num_epochs`.
    """
    given = [part.strip() for part in (text or "").split(",") if part.strip()]
    for part in given:
        if not part.isdigit() or not 1 <= int(part) <= num_epochs:
            raise UserError(
                f"--snapshot_epochs={text} names {part!r}, and the epochs of this run are 1 to {num_epochs}; pass "
                "numbers of them with commas, such as --snapshot_epochs=1,50, or leave it out."
            )
    return tuple(sorted({int(part) for part in given}))


class Snapshots(tf.keras.callbacks.Callback):
    """Saves the encoder after the epochs of --snapshot_epochs, each file whole or not at all.

    Args:
      job: the run.
      encoder: in step with what is trained.
    """

    def __init__(self, job: Job, encoder: tf.keras.Model):
        super().__init__()
        self.job, self.encoder = job, encoder
        self.epochs = read_epochs(job.conduct["snapshot_epochs"], job.config["epochs"])

    def on_epoch_end(self, epoch, logs=None):
        """Saves when it is time."""
        if epoch + 1 in self.epochs:
            save_encoder(self.job.run.snapshot_path(epoch + 1), self.job.config, self.encoder)
