"""Several devices and machines: the strategy, who writes, and what happens when a machine is lost."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf

from bitkeras.callbacks import checkpoint
from bitkeras.data.batches import WHOLE, Share
from bitkeras.errors import UserError
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
        return tf.distribute.MultiWorkerMirroredStrategy()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) < 2:
        raise UserError("--strategy=mirrored needs at least two GPUs, and there are not; pass --strategy=one.")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


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
    strategy: tf.distribute.Strategy, plain: tf.keras.Model, build: Callable[[], tf.keras.Model]
) -> tf.keras.Model:
    """`plain` itself on one device, else the same network, made by `build`, on each of several."""
    if strategy.num_replicas_in_sync == 1:
        return plain
    copy = build()
    copy.set_weights(plain.get_weights())
    return copy


class CopyWeights(tf.keras.callbacks.Callback):
    """Keeps a network of one device in step with that of several, for what looks at it between epochs."""

    def __init__(self, original: tf.keras.Model, copy: tf.keras.Model):
        super().__init__()
        self.original, self.copy = original, copy

    def on_epoch_end(self, epoch, logs=None):
        """Copies; reading statistics that each replica has its own of is work of all processes together."""
        self.copy.set_weights(self.original.get_weights())


def in_step(trained: tf.keras.Model, plain: tf.keras.Model) -> list[tf.keras.callbacks.Callback]:
    """The callback that `plain` needs to be what `trained` is; none where they are one."""
    return [] if trained is plain else [CopyWeights(trained, plain)]


def distributed(strategy: tf.distribute.Strategy, make_batches, step: int) -> tf.data.Dataset:
    """`make_batches(step, share)`, with a share of each batch for every process and replica."""
    if strategy.num_replicas_in_sync == 1:
        return make_batches(step, WHOLE)

    def of_process(context):
        share = Share(context.input_pipeline_id, context.num_input_pipelines, context.num_replicas_in_sync)
        return make_batches(step, share)

    return strategy.distribute_datasets_from_function(of_process)


def require_same_step(strategy: tf.distribute.Strategy, step: int) -> None:
    """UserError where the processes found different checkpoints, since then they do not share the run folder."""
    if strategy.num_replicas_in_sync == 1:
        return

    @tf.function
    def mean():
        def of_replica():
            return tf.distribute.get_replica_context().all_reduce("MEAN", tf.constant(float(step), tf.float64))

        return strategy.run(of_replica)

    found = float(strategy.experimental_local_results(mean())[0])
    if abs(found - step) > 1e-6:
        raise UserError(
            f"This process would go on after step {step} and another one elsewhere; every machine must see the same "
            "files in --run_dir."
        )


@contextlib.contextmanager
def starting_over_without_peers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Where another worker is lost, starts this command again, which waits for it and goes on from the checkpoint."""
    try:
        yield
    except LOST_PEER as error:
        restarts = int(os.environ.get(_RESTARTS, 0)) + 1
        if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
            raise
        if restarts > MAX_RESTARTS:
            raise UserError(
                f"Another worker was lost {restarts} times, and this one starts over {MAX_RESTARTS} times; look at the "
                "other machines, then give the same command on all of them."
            ) from error
        reason = (str(error.message).splitlines() or [""])[0]
        say(f"another worker is lost ({reason}); starting over, {restarts} of {MAX_RESTARTS}, to wait for it")
        os.environ[_RESTARTS] = str(restarts)
        sys.stdout.flush()
        sys.stderr.flush()
        # The old server's sockets would be inherited, and its port with them.
        for number in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                os.set_inheritable(int(number), int(number) < 3)
        arguments = getattr(sys, "orig_argv", [sys.executable, *sys.argv])
        os.execv(sys.executable, [sys.executable, *arguments[1:]])
