"""What kNN and the collapse sentinel cost of an epoch, as `pretrain` has them: a section of speed.md.

    python docs/results/monitor_cost.py --data_dir=HAM10000

Processor time, which what else the machine does moves less than the clock: of steps, times the steps of an epoch, and
of what is done once after each epoch. The smaller the network and the images, the larger the share, so the run is that
of the preset `laptop`, on a lesion-grouped split.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import tensorflow as tf

from bitkeras.data import read_source
from bitkeras.data.batches import view_batches
from bitkeras.data.splits import SPLITS
from bitkeras.precision import precision_policy
from bitkeras.runs import RunFolder
from pipelines import pretrain
from pipelines.cli import PRESETS
from pipelines.encoders import build_encoder
from pipelines.job import Job
from pipelines.trainers import build_trainer, settled_method
from pipelines.watching import build_monitor


def make_job(data_dir: str) -> Job:
    """The run; nothing is written to its folder."""
    given = [f"--flagfile={PRESETS / 'laptop.flags'}", f"--data_dir={data_dir}", "--run_dir=none"]
    pretrain.FLAGS.parse([*given, "--split=lesion", "--stem=imagenet"])
    config = settled_method(pretrain.FLAGS.values(without=["run_dir", *pretrain.ALL_CONDUCT]))
    source = read_source(config["dataset"], config["data_dir"])
    split = SPLITS[config["split"]](source, seed=config["seed"])
    return Job(RunFolder("none"), config, {}, source, split, tf.distribute.get_strategy())


def measure(job: Job, steps: int) -> None:
    """Prints seconds of processor time and the share."""
    config = job.config
    tf.keras.utils.set_random_seed(config["seed"])
    encoder = build_encoder(config, from_scratch=True)
    trainer = build_trainer(config, encoder, job.steps_per_epoch)
    monitor = build_monitor(job, encoder, trainer.projector)
    sizes = {"image_size": config["image_size"], "batch_size": config["batch_size"]}
    views = view_batches(job.source, job.indices, policy=config["views"], **sizes, seed=config["seed"])

    def train(steps: int) -> None:
        trainer.fit(views, steps_per_epoch=steps, verbose=0)

    # Both are traced, and the monitor reads its images, the first time.
    train(3)
    monitor.measure()
    epoch = processor_seconds(train, steps) / steps * job.steps_per_epoch
    looks = [processor_seconds(monitor.measure) for _ in range(3)]
    print(f"an epoch of {job.steps_per_epoch} steps: {epoch:.1f} s of processor time")
    print(f"kNN and sentinel: {', '.join(f'{seconds:.2f}' for seconds in looks)} s")
    print(f"share: {', '.join(f'{seconds / epoch:.1%}' for seconds in looks)}")


def processor_seconds(work: Callable, *arguments) -> float:
    """Of all threads."""
    started = time.process_time()
    work(*arguments)
    return time.process_time() - started


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--precision", default="mixed_bfloat16")
    parser.add_argument("--steps", type=int, default=12, help="that are timed")
    options = parser.parse_args()
    with precision_policy(options.precision):
        measure(make_job(options.data_dir), options.steps)
