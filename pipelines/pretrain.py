"""Pre-train, from the first image to the finished encoder.

The defaults are the seed paper's recipe (Lu, Jha, Huo 2021): 224 px, batch 128, 400 epochs, SGD with momentum 0.9,
coupled weight decay 5e-4, base rate 0.03 per 256 images, cosine. RUN_DIR gets config.json, split.csv, metrics.jsonl,
tensorboard/, checkpoints/ and, when it is done, encoder.keras; from given weights also weights.json, and retention.json
where group norm was swapped for batch norm. The same command again goes on from the last checkpoint.
"""

from __future__ import annotations

import gc

import tensorflow as tf

from bitkeras.addons import lamb
from bitkeras.backbones import BACKBONES, NORMS, STEMS
from bitkeras.backbones.norm_swap import BN_INITS, SWAPS, WS
from bitkeras.backbones.pretrained import STEM_INITS, Pretrained, read_pretrained
from bitkeras.callbacks import FeatureMonitor, RunLog
from bitkeras.data import DATASETS, ImageSource, read_source
from bitkeras.data.augment import VIEW_POLICIES
from bitkeras.data.batches import image_batches, naming_bad_images, num_steps_per_epoch, view_batches
from bitkeras.data.splits import SPLITS, Split, load_split, with_fewer_to_train_on
from bitkeras.errors import UserError
from bitkeras.methods import METHODS
from bitkeras.runs import RunFolder
from bitkeras.schedules import scaled_lr, undo, warmup_cosine
from pipelines import runtime
from pipelines.command_flags import CommandFlags
from pipelines.encoders import build_encoder, load_start, record_lines, save_encoder, weights_record
from pipelines.fitting import CONDUCT, begin, define_checkpoint_flags, fit, take_up
from pipelines.retention import measure_retention, retention_lines
from pipelines.runtime import say
from pipelines.starting_point import require_images, settled_start

FLAGS = CommandFlags()
FLAGS.text("run_dir", None, "Where the run lies: a new folder, or one to go on with.", required=True)
runtime.define_data_flags(FLAGS, DATASETS)
FLAGS.choice("split", "paper", SPLITS, "paper: random images 60/20/20, as published; lesion: every lesion on one side.")
FLAGS.integer("num_images", None, "Pre-train on so many of the images only (default: all).", at_least=2)
FLAGS.choice("backbone", None, BACKBONES, "Depth and width of the BiT network; none: that of --weights, or R50x1.")
FLAGS.choice("norm", "batch", NORMS, "batch: the seed paper's network; group: BiT's own.")
FLAGS.choice("stem", None, STEMS, "imagenet: 7x7/2 and max-pool; cifar: 3x3/1; none: that of --weights, or imagenet.")
FLAGS.text(
    "weights",
    "none",
    "Start from a shipped model, TF Hub handle, SavedModel folder, released BiT .npz, run folder or .keras file; or "
    "from none (random).",
)
FLAGS.choice("stem_init", None, STEM_INITS, "--stem=cifar from a 7x7 kernel: start at random, or crop its centre.")
FLAGS.choice("swap", None, SWAPS, "How --weights get batch norm: the paper's way, or keeping what they compute.")
FLAGS.choice("ws", None, WS, "Weight standardisation in the swap: dropped, folded into the kernels, or kept.")
FLAGS.choice("bn_init", None, BN_INITS, "Batch norm's scale and offset in the swap: 1 and 0, or group norm's.")
FLAGS.integer("bn_calibrate", None, "Images that give batch norm its statistics after the swap; 0: none.", at_least=0)
FLAGS.choice("method", "simsiam", METHODS, "The self-supervised method.")
FLAGS.choice("views", "simsiam", VIEW_POLICIES, "The view policy.")
FLAGS.integer("image_size", 224, "Side of the views, px.", at_least=8)
FLAGS.integer("batch_size", 128, "Images a step.", at_least=2)
FLAGS.integer("epochs", 400, "Passes over the images; 0: the start is the encoder.", at_least=0)
FLAGS.choice("optimizer", "sgd", ["sgd", "lamb"], "sgd: the paper's; lamb: for batches of thousands.")
FLAGS.number("base_lr", 0.03, "Learning rate per 256 images; the optimizer gets it times batch_size/256.")
FLAGS.integer("warmup_epochs", 0, "Epochs over which the rate rises from 0.", at_least=0)
FLAGS.number("weight_decay", 5e-4, "Added to the gradient of every weight, as PyTorch's SGD does.")
FLAGS.switch("fix_predictor_lr", False, "Keep the predictor's rate constant (SimSiam, table 1).")
FLAGS.integer("num_projections", 2048, "E, the length of projections and predictions.", at_least=1)
FLAGS.integer("num_predictor_hidden", 512, "Width of the predictor's bottleneck.", at_least=1)
FLAGS.choice("precision", "auto", runtime.PRECISIONS, "auto: a mixed one where the hardware has it, else float32.")
FLAGS.integer("seed", 0, "Of weights, split, order and views.", at_least=0)
FLAGS.switch("deterministic", False, "The same bits from every run on this machine; slower.")
# Not the published 200: the bank is 10 % of the labels, where HAM10000 has 11 images of a rare class.
FLAGS.integer("knn_k", 20, "Neighbours of the kNN monitor (published, with larger banks: 200).", at_least=1)
FLAGS.number("knn_temperature", 0.07, "T of its weights exp(cos/T) (Wu et al.: 0.07; SimSiam: 0.2).", at_least=1e-6)
define_checkpoint_flags(FLAGS)


def main(_) -> None:
    """Flags become plain arguments."""
    config, conduct = FLAGS.values(without=["run_dir", *CONDUCT]), FLAGS.values(only=CONDUCT)
    pretrain(RunFolder(FLAGS.run_dir), config, conduct)


def pretrain(run: RunFolder, config: dict, conduct: dict) -> None:
    """Pre-trains to the end, from the start or from the last checkpoint.

    Args:
      run: where everything is written.
      config: the flags that decide what comes out, name -> value; a run is bound to them.
      conduct: the flags `CONDUCT`, which may differ when a run goes on.

    Raises:
      UserError: for what is wrong with data, weights, folder or flags.
    """
    config, reason = runtime.settled(run, config)
    asked_to_calibrate = config["bn_calibrate"]
    config, pretrained = settled_start(run, config)
    run.check(config)
    if run.is_finished:
        say(f"{run.path}: pre-training is already finished ({run.encoder_path.name} is there); nothing to do.")
        return
    source = read_source(config["dataset"], config["data_dir"])
    say(source.summary())
    split = find_split(run, source, config)
    say(split.summary())
    # What a preset stands for, written out or not, takes the images there are.
    require_images(None if config["swap"] else asked_to_calibrate, len(split.indices("pretrain")))
    say(f"precision {config['precision']}: {reason}")
    if config["deterministic"]:
        tf.config.experimental.enable_op_determinism()
    runtime.silence_compiler()
    with runtime.precision_policy(config["precision"]), naming_bad_images(source):
        encoder, records = prepare(run, config, pretrained, source, split)
        # 3.7 GB for R152x4, which training has no use for.
        del pretrained
        gc.collect()
        try:
            train(run, config, conduct, source, split, encoder, records)
        except tf.errors.ResourceExhaustedError as error:
            raise UserError(
                f"The memory does not hold a step of {config['batch_size']} images at {config['image_size']} px; pass "
                "a smaller --batch_size, --image_size or --backbone, and another --run_dir."
            ) from error
    save_encoder(run.encoder_path, config, encoder)
    labelled = "" if source.labels is not None else " --dataset=image_folder --data_dir=LABELLED_IMAGES"
    say(f"{run.path}: finished; next: bitkeras probe --run_dir={run.path}{labelled}")


def find_split(run: RunFolder, source: ImageSource, config: dict) -> Split:
    """The split saved in the run folder, or a new one."""
    if run.split_path.exists():
        return load_split(run.split_path, source)
    split = SPLITS[config["split"]](source, seed=config["seed"])
    if config["num_images"] is None:
        return split
    # Without their labels, which pre-training must not know.
    return with_fewer_to_train_on(split, config["num_images"], seed=config["seed"])


def prepare(
    run: RunFolder, config: dict, pretrained: Pretrained | None, source: ImageSource, split: Split
) -> tuple[tf.keras.Model, dict[str, dict]]:
    """The encoder that training starts from, under the current precision policy, and what to record of its start.

    Returns:
      (encoder, {"weights.json": ..., and after a swap "retention.json": ...}); random weights where there are none
      to start from or a checkpoint holds later ones.
    """
    tf.keras.utils.set_random_seed(config["seed"])
    encoder = build_encoder(config, from_scratch=pretrained is None)
    size = f"{encoder.count_params():,} parameters, {encoder.output_shape[-1]} features"
    say(f"{encoder.name}: {size}, {config['norm']} norm, weights: {config['weights']}")
    if pretrained is None or any(run.checkpoints_path.glob("*.index")):
        return encoder, {}
    # A run that was killed before its first checkpoint knows its weights by name only.
    pretrained = pretrained if pretrained.weights else read_pretrained(config["weights"])
    # Before anything is built from them: a module that computes something else is no start.
    records = {"weights.json": weights_record(config, pretrained, source, split)}
    start = load_start(config, pretrained, source, split.indices("pretrain"))
    lines = [*start.messages, *record_lines(records["weights.json"])]
    if start.original is not None:
        records["retention.json"] = measure_retention(start, config, source, split)
        lines += retention_lines(records["retention.json"])
    for line in lines:
        say(line)
    encoder.set_weights(start.encoder.get_weights())
    return encoder, records


def leave_untrained(run: RunFolder, config: dict, source: ImageSource, split: Split, encoder: tf.keras.Model) -> None:
    """What --epochs=0 does in place of training: the numbers of the start."""
    say("--epochs=0: nothing is trained, and the encoder is what the run starts from")
    run.drop_metrics_after(-1)
    measure_start(build_monitor(config, source, split, encoder), RunLog(run))


def train(
    run: RunFolder,
    config: dict,
    conduct: dict,
    source: ImageSource,
    split: Split,
    encoder: tf.keras.Model,
    records: dict[str, dict],
) -> None:
    """Everything between a built encoder and a trained one."""
    indices = split.indices("pretrain")
    if config["epochs"] == 0:
        begin(run, config, source, split, records)
        leave_untrained(run, config, source, split, encoder)
        return
    steps_per_epoch = num_steps_per_epoch(len(indices), config["batch_size"])
    trainer = build_trainer(config, encoder, steps_per_epoch)
    begin(run, config, source, split, records)
    every = conduct["checkpoint_steps"]
    checkpoint, steps_done = take_up(run, config, trainer, steps_per_epoch=steps_per_epoch, every=every)
    if not steps_done and config["weights"] != "none" and not records:
        raise UserError(f"The checkpoints in {run.checkpoints_path} are gone; delete that folder to start over.")
    run.drop_metrics_after(steps_done // steps_per_epoch if steps_done else -1)

    def batches(start_step: int) -> tf.data.Dataset:
        sizes = {"image_size": config["image_size"], "batch_size": config["batch_size"]}
        order = {"seed": config["seed"], "start_step": start_step}
        return view_batches(source, indices, policy=config["views"], **sizes, **order)

    monitor, log = build_monitor(config, source, split, encoder), RunLog(run)
    if not steps_done:
        log.draw_views(next(iter(batches(0))))
        measure_start(monitor, log)
    known = {"run": run, "source": source, "indices": indices}
    fit(trainer, batches, config, **known, checkpoint=checkpoint, callbacks=[monitor, log])


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


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["pretrain", *sys.argv[1:]])
