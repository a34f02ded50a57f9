"""Train a BiT network from scratch, supervised, on labelled images: what `pretrain --weights=` starts from.

The defaults are BiT's recipe (arXiv 1912.11370, section 3): Group Norm and weight standardisation, SGD with momentum
0.9, base rate 0.03 per 256 images, warm-up, a staircase, weight decay, random crops, and a random flip of each
image. RUN_DIR gets config.json, split.csv, metrics.jsonl, tensorboard/, checkpoints/ and, when it is done,
the network three times: weights.npz in the released form, hub_module/ in that of the TF Hub modules, and encoder.keras.
The same command again goes on from the last checkpoint.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from bitkeras.backbones import BACKBONES, STEMS, build_backbone
from bitkeras.backbones.checkpoints import graph_variables
from bitkeras.backbones.matmul_convs import use_matmuls
from bitkeras.backbones.released import write_hub_module, write_npz
from bitkeras.callbacks import AccuracyMonitor, RunLog
from bitkeras.callbacks.profile import read_profile_steps
from bitkeras.data import DATASETS, ImageSource
from bitkeras.data.batches import Share, labelled_batches, naming_bad_images
from bitkeras.data.pictures import Shrinking
from bitkeras.data.splits import UNUSED, Split, with_fewer_to_train_on
from bitkeras.errors import UserError
from bitkeras.files import written_atomically
from bitkeras.methods.supervised import Supervised
from bitkeras.precision import precision_policy
from bitkeras.runs import RunFolder
from bitkeras.schedules import SCHEDULES, scaled_lr
from bitkeras.sgd import SGD
from pipelines import runtime
from pipelines.caching import cached
from pipelines.command_flags import CommandFlags
from pipelines.distribution import (
    choose_strategy,
    copy_onto,
    desk,
    in_step,
    require_divisible,
    starting_over_without_peers,
)
from pipelines.fitting import CONDUCT, define_conduct_flags, fit, take_up
from pipelines.images import usable_images
from pipelines.job import Job
from pipelines.leakage import audit_job
from pipelines.runtime import say
from pipelines.splitting import define_split_flags, find_split, settled_split, whole_split

FLAGS = CommandFlags()
FLAGS.text("run_dir", None, "Where the run lies: a new folder, or one to go on with.", required=True)
runtime.define_data_flags(FLAGS, DATASETS)
define_split_flags(FLAGS, "What is held out as the test part (a released one always is).")
FLAGS.integer("num_images", None, "Train on so many images, each class in proportion (default: all).", at_least=2)
FLAGS.choice("backbone", "R50x1", BACKBONES, "Depth and width of the BiT network.")
FLAGS.choice("stem", "imagenet", STEMS, "imagenet: 7x7/2 and max-pool; cifar: 3x3/1.")
FLAGS.integer("image_size", 224, "Side of the images, px.", at_least=8)
FLAGS.number("min_crop_area", 0.05, "The smallest share of an image that a random crop covers.", at_least=0.01)
FLAGS.integer("batch_size", 256, "Images a step.", at_least=2)
FLAGS.integer("epochs", 90, "Passes over the training images.", at_least=1)
FLAGS.number("base_lr", 0.03, "Learning rate per 256 images; the optimizer gets it times batch_size/256.")
FLAGS.choice("schedule", "staircase", SCHEDULES, "How the rate falls.")
FLAGS.number("warmup_epochs", 1, "Epochs over which the rate rises from 0.")
FLAGS.number("weight_decay", 1e-4, "Added to the gradient of every weight, as PyTorch's SGD does.")
FLAGS.integer("test_every", 5, "Epochs between measurements of the test accuracy.", at_least=1)
FLAGS.choice("precision", "auto", runtime.PRECISIONS, "auto: a mixed one where the hardware has it, else float32.")
FLAGS.integer("seed", 0, "Of weights, split, order and crops.", at_least=0)
define_conduct_flags(FLAGS)


def main(_) -> None:
    """Flags become plain arguments."""
    config, conduct = FLAGS.values(without=["run_dir", *CONDUCT]), FLAGS.values(only=CONDUCT)
    upstream(RunFolder(FLAGS.run_dir), config, conduct)


def upstream(run: RunFolder, config: dict, conduct: dict) -> None:
    """Trains to the end, from the start or from the last checkpoint.

    Args:
      run: where everything is written.
      config: the flags that decide what comes out, name -> value; a run is bound to them.
      conduct: the flags `CONDUCT`, which may differ when a run goes on.

    Raises:
      UserError: for what is wrong with data, folder or flags.
    """
    read_profile_steps(conduct["profile_steps"])
    strategy = choose_strategy(conduct["strategy"])
    with starting_over_without_peers(strategy), desk(run, strategy) as written:
        upstream_on(strategy, written, config, conduct)


def upstream_on(strategy: tf.distribute.Strategy, run: RunFolder, config: dict, conduct: dict) -> None:
    """`upstream` in one process of `strategy`, with the folder this process writes to."""
    if config["warmup_epochs"] >= config["epochs"]:
        raise UserError(
            f"--warmup_epochs={config['warmup_epochs']:g} leaves nothing of --epochs={config['epochs']}; pass fewer."
        )
    config = {**settled_split(config), "method": "upstream", "norm": "group", "weights": "none"}
    config, reason = runtime.settled(run, config)
    run.check(config)
    if run.is_finished:
        say(f"{run.path}: training is already finished ({run.encoder_path.name} is there); nothing to do.")
        return
    source = runtime.read_images(config)
    say(source.summary())
    if source.labels is None:
        raise UserError(
            f"{source.name} has no labels to train on; pass a labelled set, such as --dataset=image_folder."
        )
    source, bad = usable_images(run, source, on_bad_image=conduct["on_bad_image"])
    source, split = find_split(run, source, config, make=make_split)
    job = Job(run, config, conduct, source, split, strategy, bad)
    say(f"precision {config['precision']}: {reason}")
    require_divisible(config["batch_size"], strategy)
    tf.keras.utils.set_random_seed(config["seed"])
    with precision_policy(config["precision"]), naming_bad_images(source), runtime.naming_shortage(config):
        classifier = build_classifier(config, source)
        say(f"{classifier.name}: {classifier.count_params():,} parameters, {len(source.class_names)} classes")
        classifier = train(job, classifier, audit_job(job))
    save(run, config, source, classifier)
    say(f"{run.path}: finished; next: bitkeras pretrain --weights={run.path} ...")


def make_split(source: ImageSource, config: dict) -> Split:
    """The training images as `pretrain`, held-out ones as `test`."""
    parts = whole_split(source, config, needed=("pretrain", "test")).parts
    split = Split(np.where(np.isin(parts, ("test", UNUSED)), parts, "pretrain").astype("<U11"))
    if config["num_images"] is None:
        return split
    return with_fewer_to_train_on(split, config["num_images"], seed=config["seed"], labels=source.labels)


def build_classifier(config: dict, source: ImageSource) -> tf.keras.Model:
    """The GN network with a head, under the current precision policy."""
    return build_backbone(config["backbone"], norm="group", stem=config["stem"], num_classes=len(source.class_names))


def train(job: Job, classifier: tf.keras.Model, records: dict[str, dict]) -> tf.keras.Model:
    """Everything between a built network and a trained one, which it returns."""
    config, test = job.config, job.split.indices("test")
    with job.strategy.scope():
        trained = copy_onto(job.strategy, classifier, lambda: build_classifier(config, job.source))
        trainer = build_trainer(config, trained, job.steps_per_epoch)
        checkpoint = take_up(job, trainer, trained, records)
    job.run.drop_metrics_after(checkpoint.steps_done // job.steps_per_epoch)

    area = (config["min_crop_area"], 1.0)
    read = cached(job, Shrinking(area[0], config["image_size"]))

    def batches(start_step: int, share: Share) -> tf.data.Dataset:
        sizes = {"image_size": config["image_size"], "batch_size": config["batch_size"]}
        order = {"seed": config["seed"], "start_step": start_step, "share": share}
        return labelled_batches(job.source, job.indices, crop_area=area, **sizes, **order, read=read)

    labels = job.source.labels[test]
    often = {"num_epochs": config["epochs"], "every": config["test_every"]}
    monitor = AccuracyMonitor(classifier, images=job.images(test), labels=labels, **often)
    callbacks = [*in_step(trained, classifier), monitor, RunLog(job.run)]
    fit(job, trainer, batches, checkpoint=checkpoint, callbacks=callbacks)
    if trained is not classifier:
        classifier.set_weights(trained.get_weights())
    return classifier


def build_trainer(config: dict, classifier: tf.keras.Model, steps_per_epoch: int) -> Supervised:
    """Cross-entropy and SGD around the network, compiled."""
    lr = scaled_lr(config["base_lr"], config["batch_size"])
    schedule = SCHEDULES[config["schedule"]](
        lr,
        num_steps=config["epochs"] * steps_per_epoch,
        warmup_steps=round(config["warmup_epochs"] * steps_per_epoch),
    )
    say(f"{steps_per_epoch} steps of {config['batch_size']} an epoch, learning rate {lr:g}")
    trainer = Supervised(classifier, weight_decay=config["weight_decay"])
    use_matmuls(classifier)
    trainer.compile(optimizer=SGD(schedule, momentum=0.9))
    return trainer


def save(run: RunFolder, config: dict, source: ImageSource, classifier: tf.keras.Model) -> None:
    """The network as .npz, hub module and, last, since it says that the run is finished, encoder.keras."""
    with precision_policy("float32"):
        plain = build_classifier(config, source)
        plain.set_weights(classifier.get_weights())
        encoder = tf.keras.Model(plain.input, plain.get_layer("features").output, name=plain.name)
    weights = {name: variable.numpy() for name, variable in graph_variables(plain).items()}
    write_npz(weights, run.path / "weights.npz")
    write_hub_module(plain, run.path / "hub_module", head=True)
    with written_atomically(run.encoder_path) as beside:
        encoder.save(beside)


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["upstream", *sys.argv[1:]])
