"""What every training command does around its trainer: the first files of a run, its checkpoints, and its steps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from bitkeras.backbones.recompute import recomputing
from bitkeras.callbacks import Diverged, LossGuard, RunCheckpoint, Stopped, Throughput, make_progress
from bitkeras.callbacks.profile import StepProfile, read_profile_steps
from bitkeras.data.bad_images import save_bad_images
from bitkeras.data.batches import Share, batch_indices
from bitkeras.data.positives import sisters_of
from bitkeras.data.split_files import save_split
from bitkeras.errors import UserError
from pipelines.caching import CACHE_FLAGS, define_cache_flags
from pipelines.command_flags import CommandFlags
from pipelines.distribution import (
    STRATEGIES,
    Agreement,
    distributed,
    forget_restarts,
    is_chief,
    is_one_of_several,
    require_same_run,
)
from pipelines.images import define_bad_image_flag
from pipelines.job import Job
from pipelines.runtime import say
from pipelines.stopping import noting_signals

# Flags that say how a run is carried out and not what comes out of it, so they may differ when it goes on.
CONDUCT = (
    "checkpoint_steps",
    "find_duplicates",
    "on_bad_image",
    "profile_steps",
    "recompute",
    "strategy",
    *CACHE_FLAGS,
)


def define_conduct_flags(flags: CommandFlags) -> None:
    """The flags `CONDUCT`."""
    flags.choice("strategy", "auto", STRATEGIES, "Devices: one, mirrored (all GPUs), multi_worker (as TF_CONFIG says).")
    flags.integer(
        "checkpoint_steps", None, "Steps between checkpoints within an epoch, beside that at its end.", at_least=1
    )
    flags.switch(
        "recompute", False, "Compute activations again in place of keeping them: a third of the memory, 1.3 x the time."
    )
    flags.text("profile_steps", None, "FIRST,LAST: profile these steps for TensorBoard.")
    define_bad_image_flag(flags)
    define_cache_flags(flags)
    flags.switch("find_duplicates", True, "Look for near-duplicates of the test images at the start; reads all images.")


def begin(job: Job, records: Mapping[str, dict]) -> None:
    """The first files of a run; not earlier, since a folder must not be bound to a flag that was mistyped."""
    job.run.start(job.config)
    if not job.run.split_path.exists():
        # First, since a run that has its split goes by this list.
        if job.bad_images:
            save_bad_images(job.bad_images, job.run.bad_images_path)
        else:
            # Of an earlier start, since which they have been restored.
            job.run.bad_images_path.unlink(missing_ok=True)
        save_split(job.split, job.source, job.run.split_path)
    for name, record in records.items():
        job.run.write_json(job.run.path / name, record)


def take_up(
    job: Job, trainer: tf.keras.Model, network: tf.keras.Model, records: Mapping[str, dict], **more: tf.Variable
) -> RunCheckpoint:
    """Begins the run, or goes on with it.

    Args:
      trainer: compiled.
      network: what it trains.
      records: file names -> what is known of the start.
      **more: further variables to keep.

    Returns:
      The checkpoints, with the newest restored into `trainer` and into the variables in `more`.
    """
    if job.conduct["recompute"]:
        trainer.forward = recomputing(network)
    begin(job, records)
    checkpoint = RunCheckpoint(
        trainer,
        job.run.checkpoints_path,
        steps_per_epoch=job.steps_per_epoch,
        every=job.conduct["checkpoint_steps"],
        write_to=job.run.path / job.run.checkpoints_path.name,
        say=say,
        **more,
    )
    steps_done = checkpoint.restore()
    # Images may lie elsewhere on each machine.
    decisive = {**job.config, "data_dir": None}
    require_same_run(job.strategy, steps_done, decisive, job.source.image_ids.tolist())
    if steps_done:
        say(f"going on after {checkpoint.place(steps_done)} of {job.config['epochs']}")
    return checkpoint


def fit(
    job: Job,
    trainer: tf.keras.Model,
    make_batches: Callable[[int, Share], tf.data.Dataset],
    *,
    checkpoint: RunCheckpoint,
    callbacks: Sequence[tf.keras.callbacks.Callback],
) -> None:
    """Trains to the last epoch, from wherever the checkpoint is.

    Args:
      make_batches: (step, share) -> that share of the batches from there on.
      callbacks: what measures and writes down each epoch, before it is kept.

    Raises:
      Interrupted: a signal asked to stop; the step is kept.
      UserError: the numbers have become NaN or infinite; the last good checkpoint is kept.
    """
    steps_per_epoch, num_epochs = job.steps_per_epoch, job.config["epochs"]
    profile = _profile(job)
    with noting_signals() as request, contextlib.ExitStack() as at_end:
        checkpoint.asked_to_stop = request.is_made
        last = make_progress(num_epochs, epochs_done=checkpoint.steps_done // steps_per_epoch)
        if is_one_of_several(job.strategy):
            # Each process has signals of its own, and all must save at the same step.
            checkpoint.asked_to_stop = Agreement(job.strategy, request.is_made).is_made
            last.append(tf.keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: forget_restarts()))
        # What an error would leave open.
        for end in (*(one.stop for one in profile), *(one.close for one in last if hasattr(one, "close"))):
            at_end.callback(end)
        try:
            for epoch, epochs, steps in spans(checkpoint.steps_done, steps_per_epoch, num_epochs):
                if steps < steps_per_epoch:
                    trainer.keep_metrics_once()
                guard = LossGuard(steps_per_epoch=steps_per_epoch, record=lambda step: _blame(job, step))
                checkpoint.require_good = guard.require_good
                first = [*profile, Throughput(job.config["batch_size"]), guard]
                trainer.fit(
                    distributed(job.strategy, make_batches, checkpoint.steps_done),
                    steps_per_epoch=steps,
                    initial_epoch=epoch,
                    epochs=epochs,
                    verbose=0,
                    callbacks=[*first, *callbacks, checkpoint, *last],
                )
        except Stopped as place:
            if not request.is_made():
                raise tf.errors.CancelledError(None, None, f"it was asked to stop after {place}") from None
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


def _profile(job: Job) -> list[StepProfile]:
    steps = read_profile_steps(job.conduct["profile_steps"])
    folder = job.run.tensorboard_path / "pretrain"
    return [StepProfile(folder, steps, steps_per_epoch=job.steps_per_epoch, say=say)] if steps else []


def _blame(job: Job, step: int) -> str:
    """Writes down the images of a step whose loss is no number; says where."""
    if not is_chief(job.strategy):
        return "the first worker has written down"
    order = {"batch_size": job.config["batch_size"], "seed": job.config["seed"], "step": step}
    images = batch_indices(job.indices, **order)
    if job.config.get("positives") == "lesion":
        epochs = np.full(len(images), step // job.steps_per_epoch)
        sisters = sisters_of(job.source, job.indices, images, seed=job.config["seed"], epochs=epochs)
        images = np.concatenate([images, sisters[sisters != images]])
    names = job.source.image_ids[images].tolist()
    job.run.write_json(job.run.path / "not_finite.json", {"step": step, "image_ids": names})
    return f"not_finite.json in {job.run.path} lists ({names[0]}, {names[1]} and {len(names) - 2} more)"
