"""What a stopped or killed run goes on from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from bitkeras.errors import UserError, first_line

# What a collective operation fails with when another machine is gone; saving and restoring hold such operations.
LOST_PEER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class RunCheckpoint(tf.keras.callbacks.Callback):
    """Keeps a trainer after every epoch, every `every` steps, and when asked to stop; goes on from the newest.

    A checkpoint holds weights, optimizer (with its step, and so the place in the schedule, and the loss scale), the
    means of the epoch so far, and the step. Order and pixels of the data are functions of seed and step, and nothing
    in training draws random numbers, so these are all there is.

    Args:
      model: a compiled trainer whose variables exist.
      folder: where the checkpoints lie.
      steps_per_epoch: steps of one epoch.
      every: steps between checkpoints within an epoch; None for none.
      asked_to_stop: called after every step; True saves there and raises `Stopped`.
      require_good: called with the step before a save within an epoch; raises where the state is not worth keeping.
      keep: how many checkpoints stay: the newest of all, and as many ends of epochs.
      write_to: another folder to write to, of a worker that is not the chief.
      say: told when a damaged checkpoint is passed over.
      **more: further variables to keep.
    """

    # Else Keras waits for each step's numbers, to hand them to `on_train_batch_end`.
    _supports_tf_logs = True

    def __init__(
        self,
        model: tf.keras.Model,
        folder: Path,
        *,
        steps_per_epoch: int,
        every: int | None = None,
        asked_to_stop: Callable[[], bool] = lambda: False,
        require_good: Callable[[int], None] = lambda step: None,
        keep: int = 2,
        write_to: Path | None = None,
        say: Callable[[str], None] = print,
        **more: tf.Variable,
    ):
        super().__init__()
        self.steps_per_epoch, self.every, self.asked_to_stop = steps_per_epoch, every, asked_to_stop
        self.require_good = require_good
        self.folder, self.say, self.keep = Path(folder), say, keep
        # Not the optimizer's step: around Addons' optimizers the loss scale does not count a step that overflows.
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False)
        # The loss scale around a former Keras optimizer, such as Addons', has no `build`; what is in it has.
        getattr(model.optimizer, "inner_optimizer", model.optimizer).build(model.trainable_variables)
        self.checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, step=self.step, **more)
        self.optimizer = model.optimizer
        self.manager = tf.train.CheckpointManager(self.checkpoint, str(write_to or folder), max_to_keep=None)

    @property
    def steps_done(self) -> int:
        """Steps that this run has taken, with those before it was gone on with; as of the last save or restore."""
        # Under several replicas the variable is one of each, and those are no number.
        return int(self.step.read_value())

    def restore(self) -> int:
        """Loads the newest checkpoint that is whole; returns how many steps are done, 0 where there is none.

        Raises:
          UserError: a checkpoint is of another network or optimizer, or none of them is whole.
        """
        kept, damaged = self.kept(), []
        for path in reversed(kept):
            try:
                self.checkpoint.restore(str(path)).assert_existing_objects_matched()
                self._put_aside(damaged)
                return self.steps_done
            except LOST_PEER:
                raise
            except (AssertionError, ValueError) as error:
                raise UserError(
                    f"The checkpoint {path} cannot be restored, since it is of another network or optimizer, or of an "
                    f"earlier bitkeras ({first_line(error)}); pass another --run_dir, or delete its folder to start "
                    "over."
                ) from error
            # IndexError and RuntimeError are what a cut-off file raises below TensorFlow's own exceptions.
            except (IndexError, RuntimeError, tf.errors.OpError) as error:
                self.say(f"the checkpoint {path} is damaged ({first_line(error)}), so the one before is taken")
                damaged.append(path)
        if kept:
            raise UserError(
                f"None of the checkpoints in {self.folder} is whole; bring one back, or delete it to start over."
            )
        return 0

    def roll_back(self, epoch: int) -> int:
        """Loads the state after `epoch`, or the last one before it that is kept; the step stays what it is.

        Returns:
          The epoch that the state is of.

        Raises:
          UserError: none is kept.
        """
        older = [path for path in self.kept() if _step_of(path) <= epoch * self.steps_per_epoch]
        if not older:
            raise UserError(f"No checkpoint of epoch {epoch} or before is kept in {self.folder}; start another run.")
        clock = [(variable, variable.read_value()) for variable in (self.step, self.optimizer.iterations)]
        self.checkpoint.restore(str(older[-1])).assert_existing_objects_matched()
        for variable, now in clock:
            variable.assign(now)
        return _step_of(older[-1]) // self.steps_per_epoch

    def kept(self) -> list[Path]:
        """The checkpoints that are there, oldest first, without their endings."""
        # Not `manager.checkpoints`: it names those that were deleted, too, and forgets all when its list is lost.
        return _checkpoints_in(self.folder)

    def on_train_begin(self, logs=None):
        """Takes away what a kill left half-written."""
        # Its own folder only: in that of the run another process may be writing.
        for path in Path(self.manager.directory).glob("ckpt-*_temp"):
            shutil.rmtree(path, ignore_errors=True)

    def on_epoch_begin(self, epoch, logs=None):
        """Knows where the epoch starts: in its middle, where a stopped run goes on."""
        self.first_step = max(self.steps_done, epoch * self.steps_per_epoch)

    def on_train_batch_end(self, batch, logs=None):
        """Saves within an epoch; its end is for `on_epoch_end`, after the epoch was measured."""
        step = self.first_step + batch + 1
        if step % self.steps_per_epoch == 0:
            return
        stop = self.asked_to_stop()
        if stop or (self.every and step % self.every == 0):
            self.require_good(step)
            self.save(step)
            self._stop_if(stop)

    def on_epoch_end(self, epoch, logs=None):
        """Saves; the checkpoint before stays until this one is complete."""
        self.save((epoch + 1) * self.steps_per_epoch)
        self._stop_if(self.asked_to_stop())

    def save(self, step: int) -> None:
        """Writes the checkpoint of `step`.

        Raises:
          UserError: it cannot be written; those before are kept.
        """
        self.step.assign(step)
        try:
            self.manager.save(checkpoint_number=step)
        except LOST_PEER:
            raise
        except tf.errors.OpError as error:
            raise UserError(
                f"The checkpoint of {self.place(step)} could not be written ({first_line(error)}); the one before is "
                "kept. Make room or access and run the same command again."
            ) from error
        self._prune()

    def _prune(self) -> None:
        """Deletes what is neither among the newest nor among the newest ends of epochs."""
        paths = _checkpoints_in(Path(self.manager.directory))
        ends = [path for path in paths if _step_of(path) % self.steps_per_epoch == 0]
        for path in set(paths) - {*paths[-self.keep :], *ends[-self.keep :]}:
            for file in path.parent.glob(f"{path.name}.*"):
                file.unlink(missing_ok=True)

    def _put_aside(self, damaged: list[Path]) -> None:
        """Takes checkpoints that cannot be read out of those that are kept."""
        for path in damaged:
            path.with_name(f"{path.name}.index").rename(path.with_name(f"{path.name}.damaged"))

    def place(self, step: int) -> str:
        """`step` in words."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        return f"epoch {epoch}" if batch == 0 else f"step {batch} of {self.steps_per_epoch} in epoch {epoch + 1}"

    def last_good(self) -> str:
        """What is there to go on from, in words."""
        kept = self.kept()
        if not kept:
            return "there is no checkpoint yet"
        return f"the checkpoint of {self.place(_step_of(kept[-1]))} is kept ({kept[-1]})"

    def _stop_if(self, stop: bool) -> None:
        if stop:
            raise Stopped(self.place(self.steps_done))


class Stopped(Exception):
    """Training was asked to stop, and has saved where it is; the text says where."""


def _checkpoints_in(folder: Path) -> list[Path]:
    return sorted((path.with_suffix("") for path in folder.glob("ckpt-*.index")), key=_step_of)


def _step_of(path: Path) -> int:
    return int(path.name.rpartition("-")[2])
