"""How fast this machine trains, and what holds it back.

--what=training: four things take turns, so that what else the machine does hits all of them: the input pipeline alone,
one compiled training step on a batch in memory, the training loop on that batch, and the loop on the real pipeline.
--what=views: the views that one core makes of the same JPEGs by our pipeline, by keras-cv's layers and, with
--peer_python, by torchvision as lightly ships it; --turns and --steps count, and of the others those of the data.
--what=serving: what --model, or random weights of --backbone, --norm, --stem and --image_size, takes in TensorFlow as
it is pushed, frozen and in bfloat16, and in the engines of the extra `convert`; no data is needed.
Nothing is kept; --output writes the numbers.
"""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.backbones import BACKBONES, NORMS, STEMS
from bitkeras.callbacks import LossGuard, Throughput
from bitkeras.data import DATASETS, ImageSource
from bitkeras.data.augment import VIEW_POLICIES
from bitkeras.data.batches import naming_bad_images, num_steps_per_epoch, view_batches
from bitkeras.errors import UserError
from bitkeras.files import written_atomically
from bitkeras.precision import precision_policy
from pipelines import runtime, serving_rates, view_rates
from pipelines.command_flags import CommandFlags
from pipelines.encoders import build_encoder
from pipelines.runtime import say
from pipelines.trainers import build_trainer, define_method_flags, settled_method

FLAGS = CommandFlags()
FLAGS.choice("what", "training", ["training", "views", "serving"], "What is measured.")
runtime.define_data_flags(FLAGS, DATASETS, required=False)
FLAGS.choice("backbone", "R50x1", BACKBONES, "Depth and width of the BiT network.")
FLAGS.choice("norm", "batch", NORMS, "batch: the seed paper's network; group: BiT's own.")
FLAGS.choice("stem", "imagenet", STEMS, "imagenet: 7x7/2 and max-pool; cifar: 3x3/1.")
FLAGS.choice("views", "simsiam", VIEW_POLICIES, "The view policy.")
FLAGS.integer("image_size", 224, "Side of the views, px.", at_least=8)
FLAGS.integer("batch_size", 128, "Images a step.", at_least=2)
define_method_flags(FLAGS)
FLAGS.choice("precision", "auto", runtime.PRECISIONS, "auto: a mixed one where the hardware has it, else float32.")
FLAGS.integer("steps", 10, "Steps of each turn.", at_least=2)
FLAGS.integer("turns", 5, "Turns of each; what is told is the median.", at_least=1)
FLAGS.text("peer_python", None, "Of --what=views: Python of an environment with torch, torchvision and lightly.")
FLAGS.text("model", None, "Of --what=serving: a version that was pushed; none: random weights.")
FLAGS.text("serving_batches", "1,16", "Of --what=serving: images a request.")
FLAGS.integer("num_threads", 2, "Of --what=serving: threads of each engine.", at_least=1)
FLAGS.text("output", None, "A JSON file for the numbers.")

# Batches that lie ready while others have their turn.
_READY = 4


def main(_) -> None:
    """Flags become plain arguments."""
    config = FLAGS.values(without=["output"])
    if config["what"] != "serving" and config["data_dir"] is None:
        raise UserError(f"--data_dir must be given: --what={config['what']} works on images.")
    if config["what"] == "serving":
        numbers = {"serving": serving_rates.compare(config)}
        told = serving_rates.lines(numbers["serving"])
    elif config["what"] == "views":
        numbers = {"views": benchmark_views(config)}
        told = view_rates.lines(numbers["views"])
    else:
        numbers = benchmark(config)
        told = lines(numbers)
    for line in told:
        say(line)
    if FLAGS.output:
        with written_atomically(Path(FLAGS.output)) as beside:
            beside.write_text(json.dumps({"flags": config, **numbers}, indent=2) + "\n")


def benchmark(config: dict) -> dict[str, float]:
    """The numbers by name; rates are medians over the turns, ratios are of those medians.

    Returns:
      views_per_second, step_images_per_second, memory_images_per_second, memory_steps_per_second,
      real_images_per_second, loop_to_step, real_to_memory (1: nothing is lost), waiting_share (of the time of a real
      step), peak_memory_gb.
    """
    policy, reason = runtime.choose_precision(config["precision"])
    source = runtime.read_existing(config)
    say(f"precision {policy}: {reason}")
    runtime.silence_compiler()
    tf.keras.utils.set_random_seed(0)
    with precision_policy(policy), naming_bad_images(source), runtime.naming_shortage(config):
        trainer = build_trainer({**settled_method(config), "epochs": 1000}, build_encoder(config), config["steps"])
        batches = endless(source, config)
        arms = make_arms(trainer, batches, config)
        turns = {name: [] for name in arms}
        for turn in range(config["turns"] + 1):
            for name, arm in arms.items():
                seconds = arm()
                # The first turn compiles.
                if turn:
                    turns[name].append(seconds)
            if turn:
                say(f"turn {turn} of {config['turns']}")
    return summary(turns, config)


def benchmark_views(config: dict) -> list[dict]:
    """As `view_rates.compare` returns them."""
    source = runtime.read_existing(config)
    with naming_bad_images(source):
        return view_rates.compare(
            source, peer_python=config["peer_python"], turns=config["turns"], batches=config["steps"]
        )


def endless(source: ImageSource, config: dict) -> tf.data.Dataset:
    """The batches that pre-training would have."""
    num_steps_per_epoch(len(source), config["batch_size"])
    sizes = {"image_size": config["image_size"], "batch_size": config["batch_size"]}
    return view_batches(source, np.arange(len(source)), policy=config["views"], **sizes, seed=0)


def make_arms(
    trainer: tf.keras.Model, batches: tf.data.Dataset, config: dict
) -> dict[str, Callable[[], float | tuple[float, float]]]:
    """Name -> a turn, which returns its seconds; of "waiting" those of waiting and those in all."""
    steps, iterator = config["steps"], iter(batches)
    batch = next(iterator)
    in_memory = tf.data.Dataset.from_tensors(batch).repeat()
    compiled = tf.function(trainer.train_step)

    def finish() -> None:
        # The device may be steps behind Python.
        trainer.optimizer.iterations.numpy()

    def views() -> float:
        for _ in range(_READY):
            next(iterator)
        started = time.perf_counter()
        for _ in range(steps):
            next(iterator)
        return time.perf_counter() - started

    def step() -> float:
        started = time.perf_counter()
        for _ in range(steps):
            compiled(batch)
        finish()
        return time.perf_counter() - started

    def loop(dataset: tf.data.Dataset) -> float:
        throughput = Throughput(config["batch_size"])
        guard = LossGuard(steps_per_epoch=steps, record=str)
        # The second epoch counts: in the first one the pipeline starts from nothing.
        history = trainer.fit(dataset, steps_per_epoch=steps, epochs=2, verbose=0, callbacks=[throughput, guard])
        return steps * config["batch_size"] / history.history["images_per_second"][1]

    def waiting() -> tuple[float, float]:
        waited, started = 0.0, time.perf_counter()
        for _ in range(steps):
            asked = time.perf_counter()
            real = next(iterator)
            waited += time.perf_counter() - asked
            compiled(real)
            finish()
        return waited, time.perf_counter() - started

    arms = {"views": views, "step": step, "memory": lambda: loop(in_memory), "real": lambda: loop(batches)}
    return {**arms, "waiting": waiting}


def summary(turns: dict[str, list], config: dict) -> dict[str, float]:
    """Rates, ratios and memory from the seconds of the turns."""
    images = config["steps"] * config["batch_size"]
    seconds = {name: statistics.median(turns[name]) for name in ("views", "step", "memory", "real")}
    # Kilobytes on Linux.
    numbers = {"peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    for gpu in tf.config.list_logical_devices("GPU"):
        numbers["peak_gpu_memory_gb"] = tf.config.experimental.get_memory_info(gpu.name)["peak"] / 2**30
    return {
        "views_per_second": 2 * images / seconds["views"],
        "step_images_per_second": images / seconds["step"],
        "memory_images_per_second": images / seconds["memory"],
        "memory_steps_per_second": config["steps"] / seconds["memory"],
        "real_images_per_second": images / seconds["real"],
        "loop_to_step": seconds["step"] / seconds["memory"],
        "real_to_memory": seconds["memory"] / seconds["real"],
        "waiting_share": statistics.median(waited / whole for waited, whole in turns["waiting"]),
        **numbers,
    }


def lines(numbers: dict[str, float]) -> list[str]:
    """The numbers for people."""
    step = numbers["step_images_per_second"]
    told = [
        f"input pipeline alone            {numbers['views_per_second']:9.1f} views/s",
        f"compiled step, batch in memory  {step:9.1f} images/s",
        f"training loop, batch in memory  {numbers['memory_images_per_second']:9.1f} images/s, "
        f"{numbers['memory_steps_per_second']:.2f} steps/s, {numbers['loop_to_step']:.3f} of the step",
        f"training loop, real pipeline    {numbers['real_images_per_second']:9.1f} images/s, "
        f"{numbers['real_to_memory']:.3f} of that in memory",
        f"waiting for data                {numbers['waiting_share']:9.1%} of a step",
        f"peak memory                     {numbers['peak_memory_gb']:9.2f} GB",
    ]
    if "peak_gpu_memory_gb" in numbers:
        told.append(f"peak memory of the GPU          {numbers['peak_gpu_memory_gb']:9.2f} GB")
    return told


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["benchmark", *sys.argv[1:]])
