"""Pre-train, from the first image to the finished encoder.

The defaults are the seed paper's recipe (Lu, Jha, Huo 2021): 224 px, batch 128, 400 epochs, SGD with momentum 0.9,
coupled weight decay 5e-4, base rate 0.03 per 256 images, cosine. RUN_DIR gets config.json, split.csv, metrics.jsonl,
tensorboard/, checkpoints/ and, when it is done, encoder.keras. The same command again goes on from the last checkpoint.
"""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf

from bitkeras.addons import lamb
from bitkeras.backbones import BACKBONES, NORMS, STEMS, build_backbone
from bitkeras.backbones.checkpoints import HEAD, assign_weights, read_weights
from bitkeras.backbones.norm_swap import swap_group_norm
from bitkeras.callbacks import EpochCheckpoint, FeatureMonitor, RunLog, Throughput, make_progress
from bitkeras.data import DATASETS, ImageSource, read_source
from bitkeras.data.augment import VIEW_POLICIES
from bitkeras.data.batches import image_batches, naming_bad_images, num_steps_per_epoch, view_batches
from bitkeras.data.splits import SPLITS, Split, load_split, save_split, unlabelled_split
from bitkeras.errors import UserError
from bitkeras.files import written_atomically
from bitkeras.methods import METHODS
from bitkeras.runs import RunFolder
from bitkeras.schedules import scaled_lr, undo, warmup_cosine
from pipelines import runtime
from pipelines.command_flags import CommandFlags
from pipelines.runtime import say

FLAGS = CommandFlags()
FLAGS.text("run_dir", None, "Where the run lies: a new folder, or one to go on with.", required=True)
runtime.define_data_flags(FLAGS, DATASETS)
FLAGS.choice("split", "paper", SPLITS, "paper: random images 60/20/20, as published; lesion: every lesion on one side.")
FLAGS.choice("backbone", "R50x1", BACKBONES, "Depth and width of the BiT network.")
FLAGS.choice("norm", "batch", NORMS, "batch: the seed paper's network; group: BiT's own.")
FLAGS.choice("stem", "imagenet", STEMS, "imagenet: 7x7/2 and max-pool; cifar: 3x3/1.")
FLAGS.text("weights", "none", "Start from a released BiT .npz, a TF Hub handle or SavedModel folder, or none (random).")
FLAGS.choice("method", "simsiam", METHODS, "The self-supervised method.")
FLAGS.choice("views", "simsiam", VIEW_POLICIES, "The view policy.")
FLAGS.integer("image_size", 224, "Side of the views, px.", at_least=8)
FLAGS.integer("batch_size", 128, "Images a step.", at_least=2)
FLAGS.integer("epochs", 400, "Passes over the pre-training images.", at_least=1)
FLAGS.choice("optimizer", "sgd", ["sgd", "lamb"], "sgd: the paper's; lamb: for batches of thousands.")
FLAGS.number("base_lr", 0.03, "Learning rate per 256 images; the optimizer gets it times batch_size/256.")
FLAGS.integer("warmup_epochs", 0, "Epochs over which the rate rises from 0.", at_least=0)
FLAGS.number("weight_decay", 5e-4, "Added to the gradient of every weight, as PyTorch's SGD does.")
FLAGS.switch("fix_predictor_lr", False, "Keep the predictor's rate constant (SimSiam, table 1).")
FLAGS.integer("num_projections", 2048, "E, the length of projections and predictions.", at_least=1)
FLAGS.integer("num_predictor_hidden", 512, "Width of the predictor's bottleneck.", at_least=1)
FLAGS.choice("precision", "auto", runtime.PRECISIONS, "auto: a mixed one where the hardware has it, else float32.")
FLAGS.integer("seed", 0, "Of weights, split, order and views.", at_least=0)
# Not the published 200: the bank is 10 % of the labels, where HAM10000 has 11 images of a rare class.
FLAGS.integer("knn_k", 20, "Neighbours of the kNN monitor (published, with larger banks: 200).", at_least=1)
FLAGS.number("knn_temperature", 0.07, "T of its weights exp(cos/T) (Wu et al.: 0.07; SimSiam: 0.2).", at_least=1e-6)


def main(_) -> None:
    """Flags become plain arguments."""
    pretrain(RunFolder(FLAGS.run_dir), FLAGS.values(without=["run_dir"]))


def pretrain(run: RunFolder, config: dict) -> None:
    """Pre-trains to the end, from the start or from the last checkpoint.

    Args:
      run: where everything is written.
      config: the flags above but run_dir, name -> value.

    Raises:
      UserError: for what is wrong with data, weights, folder or flags.
    """
    policy, reason = runtime.choose_precision(config["precision"])
    if config["precision"] == "auto" and run.config_path.exists():
        # A run goes on in the precision it was started in, also on another machine.
        policy, reason = run.config()["precision"], "as this run was started"
    config = {**config, "precision": policy, "data_dir": str(Path(config["data_dir"]).absolute())}
    run.check(config)
    if run.is_finished:
        say(f"{run.path}: pre-training is already finished ({run.encoder_path.name} is there); nothing to do.")
        return
    source = read_source(config["dataset"], config["data_dir"])
    say(source.summary())
    split = find_split(run, source, config)
    say(split.summary())
    say(f"precision {policy}: {reason}")
    tf.keras.utils.set_random_seed(config["seed"])
    with runtime.precision_policy(policy), naming_bad_images(source):
        encoder = build_encoder(config)
        size = f"{encoder.count_params():,} parameters, {encoder.output_shape[-1]} features"
        say(f"{encoder.name}: {size}, {config['norm']} norm, weights: {config['weights']}")
        try:
            train(run, config, source, split, encoder)
        except tf.errors.ResourceExhaustedError as error:
            raise UserError(
                f"The memory does not hold a step of {config['batch_size']} images at {config['image_size']} px; pass "
                "a smaller --batch_size, --image_size or --backbone, and another --run_dir."
            ) from error
    save_encoder(run, config, encoder)
    labelled = "" if source.labels is not None else " --dataset=image_folder --data_dir=LABELLED_IMAGES"
    say(f"{run.path}: finished; next: bitkeras probe --run_dir={run.path}{labelled}")


def find_split(run: RunFolder, source: ImageSource, config: dict) -> Split:
    """The split saved in the run folder, or a new one."""
    if run.split_path.exists():
        return load_split(run.split_path, source)
    if source.labels is None:
        return unlabelled_split(source)
    return SPLITS[config["split"]](source, seed=config["seed"])


def build_encoder(config: dict) -> tf.keras.Model:
    """The backbone with its starting weights, under the current precision policy."""
    from_scratch = config["weights"] == "none"
    encoder = build_backbone(
        config["backbone"],
        norm=config["norm"],
        stem=config["stem"],
        # Group norm comes with standardised kernels, for which zeros are a singular point.
        zero_init_residual=from_scratch and config["norm"] == "batch",
    )
    if not from_scratch:
        weights = read_weights(config["weights"])
        if config["norm"] == "batch":
            swap_group_norm(encoder, weights)
        else:
            assign_weights(encoder, weights, skip=HEAD)
    return encoder


def train(run: RunFolder, config: dict, source: ImageSource, split: Split, encoder: tf.keras.Model) -> None:
    """Everything between a built encoder and a trained one."""
    indices = split.indices("pretrain")
    steps_per_epoch = num_steps_per_epoch(len(indices), config["batch_size"])
    trainer = build_trainer(config, encoder, steps_per_epoch)
    # Not before: a run folder must not be bound to a flag that was mistyped.
    run.start(config)
    if not run.split_path.exists():
        save_split(split, source, run.split_path)
    checkpoint = EpochCheckpoint(trainer, run.checkpoints_path)
    epochs_done = checkpoint.restore()
    if epochs_done:
        say(f"going on after epoch {epochs_done} of {config['epochs']}")
    run.drop_metrics_after(epochs_done if epochs_done else -1)
    batches = view_batches(
        source,
        indices,
        policy=config["views"],
        image_size=config["image_size"],
        batch_size=config["batch_size"],
        seed=config["seed"],
        start_step=epochs_done * steps_per_epoch,
    )
    monitor, log = build_monitor(config, source, split, encoder), RunLog(run)
    if not epochs_done:
        log.draw_views(next(iter(batches)))
        measure_start(monitor, log)
    throughput = Throughput(steps_per_epoch * config["batch_size"])
    trainer.fit(
        batches,
        steps_per_epoch=steps_per_epoch,
        initial_epoch=epochs_done,
        epochs=config["epochs"],
        verbose=0,
        callbacks=[throughput, monitor, log, checkpoint, *make_progress(config["epochs"], epochs_done=epochs_done)],
    )


def measure_start(monitor: FeatureMonitor, log: RunLog) -> None:
    """The numbers before training, as epoch 0."""
    try:
        log.record(0, monitor.measure())
    except FloatingPointError:
        # Raw BiT kernels behind BN at mean 0 and variance 1 can overflow until the first batches have been seen.
        say("before training the features are not finite, since the BN statistics are those of no image; no epoch 0")


def build_trainer(config: dict, encoder: tf.keras.Model, steps_per_epoch: int) -> tf.keras.Model:
    """The method around the encoder, compiled."""
    lr = scaled_lr(config["base_lr"], config["batch_size"])
    schedule = warmup_cosine(
        lr, num_steps=config["epochs"] * steps_per_epoch, warmup_steps=config["warmup_epochs"] * steps_per_epoch
    )
    say(f"{config['method']}: {steps_per_epoch} steps of {config['batch_size']} an epoch, learning rate {lr:g}")
    uses_lamb = config["optimizer"] == "lamb"
    if uses_lamb and config["fix_predictor_lr"]:
        raise UserError(
            "--fix_predictor_lr scales gradients, and --optimizer=lamb is blind to their scale; pass one of the two."
        )
    trainer = METHODS[config["method"]](
        encoder,
        num_projections=config["num_projections"],
        num_predictor_hidden=config["num_predictor_hidden"],
        predictor_scale=undo(schedule, lr) if config["fix_predictor_lr"] else None,
        # LAMB decays by itself, in proportion to each layer's rate.
        weight_decay=0.0 if uses_lamb else config["weight_decay"],
    )
    optimizer = (
        lamb(schedule, weight_decay=config["weight_decay"])
        if uses_lamb
        else tf.keras.optimizers.SGD(schedule, momentum=0.9)
    )
    trainer.compile(optimizer=optimizer)
    return trainer


def build_monitor(config: dict, source: ImageSource, split: Split, encoder: tf.keras.Model) -> FeatureMonitor:
    """Neighbours of the probe's validation part in its training part; the test part is never looked at here."""

    def batches(indices):
        return image_batches(source, indices, image_size=config["image_size"], batch_size=config["batch_size"])

    if source.labels is None:
        return FeatureMonitor(encoder, queries=batches(split.indices("pretrain")[:1000]))
    bank, queries = split.indices("probe_train"), split.indices("probe_val")
    return FeatureMonitor(
        encoder,
        queries=batches(queries),
        bank=batches(bank),
        bank_labels=source.labels[bank],
        query_labels=source.labels[queries],
        num_classes=len(source.class_names),
        k=config["knn_k"],
        temperature=config["knn_temperature"],
    )


def save_encoder(run: RunFolder, config: dict, encoder: tf.keras.Model) -> None:
    """Writes the encoder as a float32 graph, so that probe and export do not depend on the training precision."""
    with runtime.precision_policy("float32"):
        plain = build_backbone(config["backbone"], norm=config["norm"], stem=config["stem"])
    plain.set_weights(encoder.get_weights())
    with written_atomically(run.encoder_path) as beside:
        plain.save(beside)


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["pretrain", *sys.argv[1:]])
