"""What every training command does around its trainer: the first files of a run, its checkpoints, and its steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from bitkeras.callbacks import Diverged, LossGuard, RunCheckpoint, Stopped, Throughput, make_progress
from bitkeras.data import ImageSource
from bitkeras.data.batches import batch_indices
from bitkeras.data.splits import Split, save_split
from bitkeras.errors import UserError
from bitkeras.runs import RunFolder
from pipelines.command_flags import CommandFlags
from pipelines.runtime import say
from pipelines.stopping import noting_signals

# Flags that say how a run is carried out and not what comes out of it, so they may differ when it goes on.
CONDUCT = ("checkpoint_steps",)


def define_checkpoint_flags(flags: CommandFlags) -> None:
    """--checkpoint_steps."""
    flags.integer(
        "checkpoint_steps", None, "Steps between checkpoints within an epoch, beside that at its end.", at_least=1
    )


def begin(run: RunFolder, config: dict, source: ImageSource, split: Split, records: Mapping[str, dict]) -> None:
    """The first files of a run; not earlier, since a folder must not be bound to a flag that was mistyped."""
    run.start(config)
    if not run.split_path.exists():
        save_split(split, source, run.split_path)
    for name, record in records.items():
        run.write_json(run.path / name, record)


def take_up(
    run: RunFolder, config: dict, trainer: tf.keras.Model, *, steps_per_epoch: int, every: int | None
) -> tuple[RunCheckpoint, int]:
    """The checkpoints of a run, the newest restored into `trainer`, and how many steps are done."""
    options = {"steps_per_epoch": steps_per_epoch, "every": every, "say": say}
    checkpoint = RunCheckpoint(trainer, run.checkpoints_path, **options)
    steps_done = checkpoint.restore()
    if steps_done:
        say(f"going on after {checkpoint.place(steps_done)} of {config['epochs']}")
    return checkpoint, steps_done


def fit(
    trainer: tf.keras.Model,
    make_batches: Callable[[int], tf.data.Dataset],
    config: dict,
    *,
    run: RunFolder,
    source: ImageSource,
    indices: np.ndarray,
    checkpoint: RunCheckpoint,
    callbacks: Sequence[tf.keras.callbacks.Callback],
) -> None:
    """Trains to the last epoch, from wherever the checkpoint is.

    Args:
      make_batches: step -> the batches from there on.
      source, indices: the images that are trained on, for naming those of a step that went wrong.
      callbacks: what measures and writes down each epoch, before it is kept.

    Raises:
      Interrupted: a signal asked to stop; the step is kept.
      UserError: the numbers have become NaN or infinite; the last good checkpoint is kept.
    """
    steps_per_epoch, num_epochs = checkpoint.steps_per_epoch, config["epochs"]

    def record(step: int) -> str:
        chosen = batch_indices(indices, batch_size=config["batch_size"], seed=config["seed"], step=step)
        names = source.image_ids[chosen].tolist()
        run.write_json(run.path / "not_finite.json", {"step": step, "image_ids": names})
        return f"not_finite.json in {run.path} lists ({names[0]}, {names[1]} and {len(names) - 2} more)"

    with noting_signals() as request:
        checkpoint.asked_to_stop = request.is_made
        try:
            for epoch, epochs, steps in spans(int(checkpoint.step), steps_per_epoch, num_epochs):
                if steps < steps_per_epoch:
                    trainer.keep_metrics_once()
                guards = [Throughput(config["batch_size"]), LossGuard(steps_per_epoch=steps_per_epoch, record=record)]
                trainer.fit(
                    make_batches(int(checkpoint.step)),
                    steps_per_epoch=steps,
                    initial_epoch=epoch,
                    epochs=epochs,
                    verbose=0,
                    callbacks=[*guards, *callbacks, checkpoint, *make_progress(num_epochs, epochs_done=epoch)],
                )
        except Stopped as place:
            raise request.interrupted(str(place)) from None
        except Diverged as error:
            raise UserError(
                f"{error}; {checkpoint.last_good()}. Start again in a new --run_dir with a lower --base_lr or with "
                "--precision=float32."
            ) from error


def spans(step: int, steps_per_epoch: int, num_epochs: int) -> list[tuple[int, int, int]]:
    """(first epoch, epoch to end before, steps an epoch) of each `fit` from `step` on; a rest comes first."""
    epoch, batch = divmod(step, steps_per_epoch)
    rest = [(epoch, epoch + 1, steps_per_epoch - batch)] if batch else []
    first = epoch + len(rest)
    return [*rest, (first, num_epochs, steps_per_epoch)] if first < num_epochs else rest
