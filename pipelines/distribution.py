"""Several devices and machines: the strategy, who writes, and what happens when a machine is lost."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.callbacks import checkpoint
from bitkeras.data.batches import WHOLE, Share
from bitkeras.errors import UserError, first_line
from bitkeras.runs import RunFolder
from pipelines.runtime import say

STRATEGIES = ("auto", "one", "mirrored", "multi_worker")
# TensorFlow cannot let a process join a cluster anew, so a worker that lost another starts over as a new process.
MAX_RESTARTS = 20
_RESTARTS = "BITKERAS_RESTARTS"
# What the collective operations of the workers that are left fail with; which one depends on where they were.
LOST_PEER = (*checkpoint.LOST_PEER, tf.errors.FailedPreconditionError, tf.errors.InternalError)


def choose_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy of `--strategy`; call it before anything else of TensorFlow, which several workers need.

    Raises:
      UserError: there are not the devices or the cluster for it.
    """
    workers = _cluster_size()
    gpus = tf.config.list_physical_devices("GPU")
    if name == "auto":
        name = "multi_worker" if workers > 1 else "mirrored" if len(gpus) > 1 else "one"
    if name == "one":
        return tf.distribute.get_strategy()
    if name == "multi_worker":
        if workers < 2:
            raise UserError(
                "--strategy=multi_worker needs the environment variable TF_CONFIG on every machine, such as "
                '{"cluster": {"worker": ["host0:12345", "host1:12345"]}, "task": {"type": "worker", "index": 0}}; it '
                f"names {workers} workers now."
            )
        return _multi_worker()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        raise UserError("--strategy=mirrored needs at least two GPUs, and there are not; pass --strategy=one.")
    return _mirrored(tuple(device.name for device in devices))


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.MirroredStrategy:
    """One a process, for all runs of a study: several can crash."""
    return tf.distribute.MirroredStrategy(devices)


def _multi_worker() -> tf.distribute.Strategy:
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except LOST_PEER:
        raise
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise UserError(
            f"This worker cannot start as TF_CONFIG says, {os.environ['TF_CONFIG']} ({first_line(error)}); see that "
            "its task is one of the cluster and that its address is this machine's, with a free port."
        ) from error


def _cluster_size() -> int:
    """Workers that TF_CONFIG names; 0 without it."""
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        cluster = json.loads(text).get("cluster", {})
        return sum(len(cluster.get(kind, ())) for kind in ("chief", "worker"))
    except (ValueError, AttributeError):
        raise UserError(f"The environment variable TF_CONFIG is no JSON object: {text}") from None


def require_divisible(batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Says how a batch is shared out; UserError where it cannot be."""
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return
    if batch_size % replicas:
        below = batch_size - batch_size % replicas
        fitting = " or ".join(str(size) for size in (below, below + replicas) if size)
        raise UserError(
            f"--batch_size={batch_size} cannot be shared out evenly to {replicas} replicas; pass {fitting}, or "
            "--strategy=one."
        )
    say(f"{replicas} replicas: {batch_size} images a step, {batch_size // replicas} on each; batch norm sees all")


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """True for the one process that writes the run folder."""
    return strategy.extended.should_checkpoint


@contextlib.contextmanager
def desk(run: RunFolder, strategy: tf.distribute.Strategy) -> Iterator[RunFolder]:
    """The folder this process writes to: `run` itself, or one that reads from it and is thrown away."""
    if is_chief(strategy):
        yield run
        return
    with tempfile.TemporaryDirectory(prefix="bitkeras-worker-") as folder:
        yield run.shadow(Path(folder))


def copy_onto(
    strategy: tf.distribute.Strategy,
    plain: tf.keras.Model,
    build: Callable[[], tf.keras.Model],
    *,
    apart: bool = False,
) -> tf.keras.Model:
    """`plain` itself on one device, else, or to have two `apart`, the same network, made by `build`, on each."""
    if strategy.num_replicas_in_sync == 1 and not apart:
        return plain
    copy = build()
    copy.set_weights(plain.get_weights())
    return copy


class CopyWeights(tf.keras.callbacks.Callback):
    """Keeps a network of one device in step with what is trained, for what looks at it between epochs."""

    def __init__(self, weights: Callable[[], list[np.ndarray]], copy: tf.keras.Model):
        super().__init__()
        self.weights, self.copy = weights, copy

    def on_epoch_end(self, epoch, logs=None):
        """Copies; reading statistics that each replica has its own of is work of all processes together."""
        self.copy.set_weights(self.weights())


def in_step(
    trained: tf.keras.Model, plain: tf.keras.Model, weights: Callable[[], list[np.ndarray]] | None = None
) -> list[tf.keras.callbacks.Callback]:
    """The callback that `plain` needs to have `weights()`, or those of `trained`; none where the two are one."""
    return [] if trained is plain else [CopyWeights(weights or trained.get_weights, plain)]


def distributed(strategy: tf.distribute.Strategy, make_batches, step: int) -> tf.data.Dataset:
    """`make_batches(step, share)`, with a share of each batch for every process and replica."""
    if strategy.num_replicas_in_sync == 1:
        return make_batches(step, WHOLE)

    def of_process(context):
        share = Share(context.input_pipeline_id, context.num_input_pipelines, context.num_replicas_in_sync)
        return make_batches(step, share)

    return strategy.distribute_datasets_from_function(of_process)


def require_same_run(strategy: tf.distribute.Strategy, step: int, *of_run) -> None:
    """UserError where the processes are not at one step of one run.

    Args:
      step: that this process would go on after.
      *of_run: what decides the weights, such as flags and the images; anything with a JSON form.
    """
    if not is_one_of_several(strategy):
        return
    steps, runs = zip(*gather_from(strategy)([step, zlib.crc32(json.dumps(of_run).encode())]))
    if len(set(steps)) > 1:
        raise UserError(
            f"The workers would go on after steps {', '.join(map(str, steps))}; every machine must see the same files "
            "in --run_dir."
        )
    if len(set(runs)) > 1:
        raise UserError(
            "The workers were started with different flags, images or precisions; give the same command on every "
            "machine, with --precision=float32 where their processors differ."
        )


def is_one_of_several(strategy: tf.distribute.Strategy) -> bool:
    """True for a process that trains together with others."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def gather_from(strategy: tf.distribute.Strategy) -> Callable[[list[int]], list[list[int]]]:
    """A function of some numbers to the numbers of every replica, which all processes must call at the same time."""

    @tf.function
    def gather(row):
        # A copy made here is on the device of the replica, which says where to gather.
        return strategy.run(lambda: tf.distribute.get_replica_context().all_gather(tf.identity(row), axis=0))

    def gathered(numbers):
        # Whole numbers up to 2^53 are exact in float64, for which every kind of device has collective operations.
        rows = gather(tf.constant([numbers], tf.float64))
        return strategy.experimental_local_results(rows)[0].numpy().astype(int).tolist()

    return gathered


class Agreement:
    """Whether any of several processes was asked to stop; all of them know it at the same step.

    Args:
      asked_to_stop: whether this process was.
      every: steps between questions, each of which waits for the devices.
    """

    def __init__(self, strategy: tf.distribute.Strategy, asked_to_stop: Callable[[], bool], *, every: int = 10):
        self.gather, self.asked_to_stop, self.every, self.step = gather_from(strategy), asked_to_stop, every, 0

    def is_made(self) -> bool:
        """True where one was; to be called after every step, in all processes."""
        self.step += 1
        return self.step % self.every == 0 and any(map(any, self.gather([int(self.asked_to_stop())])))


@contextlib.contextmanager
def starting_over_without_peers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Where another worker is lost, starts this command again, which waits for it and goes on from the checkpoint."""
    try:
        yield
    except LOST_PEER as error:
        restarts = int(os.environ.get(_RESTARTS, 0)) + 1
        if not is_one_of_several(strategy):
            raise
        if restarts > MAX_RESTARTS:
            raise UserError(
                f"Another worker was lost {restarts} times, and this one starts over {MAX_RESTARTS} times; look at the "
                "other machines, then give the same command on all of them."
            ) from error
        say(
            f"another worker is lost ({first_line(error)}); starting over, {restarts} of {MAX_RESTARTS}, to wait for it"
        )
        os.environ[_RESTARTS] = str(restarts)
        sys.stdout.flush()
        sys.stderr.flush()
        # The old server's sockets would be inherited, and its port with them.
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                os.set_inheritable(int(number), int(number) < 3)
        arguments = getattr(sys, "orig_argv", [sys.executable, *sys.argv])
        os.execv(sys.executable, [sys.executable, *arguments[1:]])


def forget_restarts() -> None:
    """Counts lost workers anew: training has got on since the last one."""
    os.environ.pop(_RESTARTS, None)
