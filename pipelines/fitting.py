"""What every training command does around its trainer: the first files of a run, its checkpoints, and one `fit`."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from bitkeras.callbacks import EpochCheckpoint, RunLog, Throughput, make_progress
from bitkeras.data import ImageSource
from bitkeras.data.splits import Split, save_split
from bitkeras.runs import RunFolder
from pipelines.runtime import say


def begin(run: RunFolder, config: dict, source: ImageSource, split: Split, records: Mapping[str, dict]) -> None:
    """The first files of a run; not earlier, since a folder must not be bound to a flag that was mistyped."""
    run.start(config)
    if not run.split_path.exists():
        save_split(split, source, run.split_path)
    for name, record in records.items():
        run.write_json(run.path / name, record)


def take_up(run: RunFolder, config: dict, trainer: tf.keras.Model) -> tuple[EpochCheckpoint, int]:
    """The checkpoints of a run, the newest restored into `trainer`, and how many epochs are done."""
    checkpoint = EpochCheckpoint(trainer, run.checkpoints_path)
    epochs_done = checkpoint.restore()
    if epochs_done:
        say(f"going on after epoch {epochs_done} of {config['epochs']}")
    return checkpoint, epochs_done


def fit(
    trainer: tf.keras.Model,
    batches: tf.data.Dataset,
    config: dict,
    *,
    steps_per_epoch: int,
    epochs_done: int,
    monitor: tf.keras.callbacks.Callback,
    log: RunLog,
    checkpoint: EpochCheckpoint,
) -> None:
    """Trains to the last epoch; `monitor` adds its numbers before `log` writes them down."""
    throughput = Throughput(steps_per_epoch * config["batch_size"])
    trainer.fit(
        batches,
        steps_per_epoch=steps_per_epoch,
        initial_epoch=epochs_done,
        epochs=config["epochs"],
        verbose=0,
        callbacks=[throughput, monitor, log, checkpoint, *make_progress(config["epochs"], epochs_done=epochs_done)],
    )
