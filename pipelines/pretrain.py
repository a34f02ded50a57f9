"""Pre-train, from the first image to the finished encoder.

The defaults are the seed paper's recipe (Lu, Jha, Huo 2021): 224 px, batch 128, 400 epochs, SGD with momentum 0.9,
coupled weight decay 5e-4, base rate 0.03 per 256 images, cosine. RUN_DIR gets config.json, split.csv, metrics.jsonl,
tensorboard/, checkpoints/ and, when it is done, encoder.keras; of labelled images also leakage.json; from given weights
weights.json, and retention.json where group norm was swapped for batch norm. The same command again goes on from the
last checkpoint. With --snapshot_epochs=1,50 the encoder of these epochs stays in snapshots/.
"""

from __future__ import annotations

import gc

import tensorflow as tf

from bitkeras.backbones import BACKBONES, NORMS, STEMS
from bitkeras.backbones.norm_swap import BN_INITS, SWAPS, WS
from bitkeras.backbones.pretrained import STEM_INITS, Pretrained, read_pretrained
from bitkeras.callbacks import RunLog
from bitkeras.callbacks.profile import read_profile_steps
from bitkeras.callbacks.sentinel import ON_COLLAPSE, CollapseSentinel
from bitkeras.data import DATASETS
from bitkeras.data.augment import RECIPES, VIEW_POLICIES, Policy, make_policy
from bitkeras.data.batches import WHOLE, Share, naming_bad_images, require_different_views, view_batches
from bitkeras.data.positives import POSITIVES, num_with_sister, require_lesions
from bitkeras.errors import UserError
from bitkeras.precision import precision_policy
from bitkeras.runs import RunFolder
from pipelines import runtime
from pipelines.caching import cached
from pipelines.command_flags import CommandFlags
from pipelines.distribution import (
    choose_strategy,
    copy_onto,
    desk,
    in_step,
    is_one_of_several,
    require_divisible,
    starting_over_without_peers,
)
from pipelines.encoders import build_encoder, load_start, record_lines, save_encoder, weights_record
from pipelines.fitting import CONDUCT, begin, define_conduct_flags, fit, take_up
from pipelines.images import usable_images
from pipelines.job import Job
from pipelines.leakage import audit_job
from pipelines.retention import measure_retention, retention_lines
from pipelines.runtime import say
from pipelines.snapshots import Snapshots, read_epochs
from pipelines.splitting import define_split_flags, find_split, settled_split
from pipelines.starting_point import require_images, settled_start
from pipelines.trainers import build_trainer, define_method_flags, settled_method
from pipelines.watching import build_monitor, draw_end, draw_norms, draw_start, measure_start

FLAGS = CommandFlags()
FLAGS.text("run_dir", None, "Where the run lies: a new folder, or one to go on with.", required=True)
runtime.define_data_flags(FLAGS, DATASETS)
define_split_flags(FLAGS, "Who sees which image:")
FLAGS.integer(
    "split_seed", None, "Of the split alone, where runs of several seeds share one; none: --seed.", at_least=0
)
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
FLAGS.choice("bn_init", None, BN_INITS, "Batch norm's scale and offset in the swap: 1 and 0, group norm's, or matched.")
FLAGS.integer("bn_calibrate", None, "Images that give batch norm its statistics after the swap; 0: none.", at_least=0)
FLAGS.choice("views", "simsiam", VIEW_POLICIES, "The view policy.")
FLAGS.choice("positives", "image", POSITIVES, "A pair is an image twice, or two photos of one lesion if there are.")
FLAGS.integer("image_size", 224, "Side of the views, px.", at_least=8)
FLAGS.integer("batch_size", 128, "Images a step.", at_least=2)
FLAGS.integer("epochs", 400, "Passes over the images; 0: the start is the encoder.", at_least=0)
define_method_flags(FLAGS)
FLAGS.choice("precision", "auto", runtime.PRECISIONS, "auto: a mixed one where the hardware has it, else float32.")
FLAGS.integer("seed", 0, "Of weights, split, order and views.", at_least=0)
FLAGS.switch("deterministic", False, "The same bits from every run on this machine; slower.")
# Not the published 200: the bank is 10 % of the labels, where HAM10000 has 11 images of a rare class.
FLAGS.integer("knn_k", 20, "Neighbours of the kNN monitor (published, with larger banks: 200).", at_least=1)
FLAGS.number("knn_temperature", 0.07, "T of its weights exp(cos/T) (Wu et al.: 0.07; SimSiam: 0.2).", at_least=1e-6)
FLAGS.choice("on_collapse", "warn", ON_COLLAPSE, "Where features collapse: tell, end the run, or take it back.")
FLAGS.text("snapshot_epochs", None, "Epochs after which the encoder is kept in snapshots/ too, with commas.")
define_conduct_flags(FLAGS)
ALL_CONDUCT = (*CONDUCT, "on_collapse", "snapshot_epochs")
# Recorded as None, as runs of earlier versions have these flags, which knew no other value.
ONCE_ONLY = {"head_norm": "batch", "positives": "image"}


def main(_) -> None:
    """Flags become plain arguments."""
    config, conduct = FLAGS.values(without=["run_dir", *ALL_CONDUCT]), FLAGS.values(only=ALL_CONDUCT)
    pretrain(RunFolder(FLAGS.run_dir), config, conduct)


def pretrain(run: RunFolder, config: dict, conduct: dict) -> None:
    """Pre-trains to the end, from the start or from the last checkpoint, on the devices there are.

    Args:
      run: where everything is written.
      config: the flags that decide what comes out, name -> value; a run is bound to them.
      conduct: the other flags, which may differ when a run goes on.

    Raises:
      UserError: for what is wrong with data, weights, folder or flags.
    """
    read_profile_steps(conduct["profile_steps"])
    read_epochs(conduct["snapshot_epochs"], config["epochs"])
    if config["deterministic"] and config["views"] == "keras_cv":
        raise UserError(
            "--deterministic cannot hold with --views=keras_cv, whose layers draw in the order in which threads come; "
            f"pass one of {', '.join(RECIPES)}."
        )
    strategy = choose_strategy(conduct["strategy"])
    if conduct["on_collapse"] != "warn" and is_one_of_several(strategy):
        raise UserError(
            "Several machines may only be warned of a collapse, as each judges alone; leave --on_collapse out."
        )
    with starting_over_without_peers(strategy), desk(run, strategy) as written:
        pretrain_on(strategy, written, config, conduct)


def pretrain_on(strategy: tf.distribute.Strategy, run: RunFolder, config: dict, conduct: dict) -> None:
    """`pretrain` in one process of `strategy`, with the folder this process writes to."""
    config, reason = runtime.settled(run, settled_split(settled_method(config)))
    config.update({flag: None for flag, only in ONCE_ONLY.items() if config[flag] == only})
    asked_to_calibrate = config["bn_calibrate"]
    config, pretrained = settled_start(run, config)
    run.check(config)
    if run.is_finished:
        say(f"{run.path}: pre-training is already finished ({run.encoder_path.name} is there); nothing to do.")
        return
    source = runtime.read_images(config)
    say(source.summary())
    source, bad = usable_images(run, source, on_bad_image=conduct["on_bad_image"])
    source, split = find_split(run, source, config)
    say(split.summary())
    job = Job(run, config, conduct, source, split, strategy, bad)
    require_positives(job)
    # What a preset stands for, written out or not, takes the images there are.
    require_images(None if config["swap"] else asked_to_calibrate, len(job.indices))
    say(f"precision {config['precision']}: {reason}")
    require_divisible(config["batch_size"], strategy)
    if config["deterministic"]:
        tf.config.experimental.enable_op_determinism()
    runtime.silence_compiler()
    with precision_policy(config["precision"]), naming_bad_images(source), runtime.naming_shortage(config):
        encoder, records = prepare(job, pretrained)
        records.update(audit_job(job))
        # 3.7 GB for R152x4, which training has no use for.
        del pretrained
        gc.collect()
        encoder = train(job, encoder, records) if config["epochs"] else leave(job, encoder, records)
        draw_end(job, encoder)
    save_encoder(run.encoder_path, config, encoder)
    labelled = "" if source.labels is not None else " --dataset=image_folder --data_dir=LABELLED_IMAGES"
    say(f"{run.path}: finished; next: bitkeras probe --run_dir={run.path}{labelled}")


def require_positives(job: Job) -> None:
    """Says how many images have a sister photograph to be paired with; UserError where the source knows no lesions."""
    if job.config["positives"] == "lesion":
        require_lesions(job.source)
        paired = num_with_sister(job.source, job.indices)
        say(f"--positives=lesion: {paired} of {len(job.indices)} images have a sister photo to be paired with")


def prepare(job: Job, pretrained: Pretrained | None) -> tuple[tf.keras.Model, dict[str, dict]]:
    """The encoder that training starts from, under the current precision policy, and what to record of its start.

    Returns:
      (encoder, {"weights.json": ..., and after a swap "retention.json": ...}); random weights where there are none
      to start from or a checkpoint holds later ones.
    """
    config, source, split = job.config, job.source, job.split
    tf.keras.utils.set_random_seed(config["seed"])
    encoder = build_encoder(config, from_scratch=pretrained is None)
    size = f"{encoder.count_params():,} parameters, {encoder.output_shape[-1]} features"
    say(f"{encoder.name}: {size}, {config['norm']} norm, weights: {config['weights']}")
    if pretrained is None or any(job.run.checkpoints_path.glob("*.index")):
        return encoder, {}
    # A run that was killed before its first checkpoint knows its weights by name only.
    pretrained = pretrained if pretrained.weights else read_pretrained(config["weights"])
    # Before anything is built from them: a module that computes something else is no start.
    records = {"weights.json": weights_record(config, pretrained, source, split)}
    start = load_start(config, pretrained, source, job.indices)
    lines = [*start.messages, *record_lines(records["weights.json"])]
    if start.original is not None:
        records["retention.json"] = measure_retention(start, config, source, split)
        lines += retention_lines(records["retention.json"])
    for line in lines:
        say(line)
    encoder.set_weights(start.encoder.get_weights())
    return encoder, records


def leave(job: Job, encoder: tf.keras.Model, records: dict[str, dict]) -> tf.keras.Model:
    """What --epochs=0 does in place of training: the numbers of the start."""
    begin(job, records)
    say("--epochs=0: nothing is trained, and the encoder is what the run starts from")
    job.run.drop_metrics_after(-1)
    measure_start(build_monitor(job, encoder), RunLog(job.run))
    return encoder


def on_accelerator(job: Job, policy: Policy) -> bool:
    """Whether the GPU makes the views: where the policy can, there is one, and a view is of the image itself."""
    is_one = job.strategy.num_replicas_in_sync == 1 and bool(tf.config.list_logical_devices("GPU"))
    return policy.halves is not None and is_one and not job.config["positives"]


def train(job: Job, encoder: tf.keras.Model, records: dict[str, dict]) -> tf.keras.Model:
    """Everything between a built encoder and a trained one, which it returns."""
    run, config = job.run, job.config
    with job.strategy.scope():
        # What is looked at and saved is the average then, and another network than the one that is trained.
        trained = copy_onto(job.strategy, encoder, lambda: build_encoder(config), apart=bool(config["ema"]))
        # The same heads on any number of devices, whatever was built before.
        tf.keras.utils.set_random_seed(config["seed"] + 1)
        rate_factor = tf.Variable(1.0, trainable=False)
        trainer = build_trainer(config, trained, job.steps_per_epoch, rate_factor=rate_factor)
        checkpoint = take_up(job, trainer, trained, records, rate_factor=rate_factor)
    steps_done = checkpoint.steps_done
    if not steps_done and config["weights"] != "none" and "weights.json" not in records:
        raise UserError(f"The checkpoints in {run.checkpoints_path} are gone; delete that folder to start over.")
    run.drop_metrics_after(steps_done // job.steps_per_epoch if steps_done else -1)

    policy = make_policy(config["views"], image_size=config["image_size"], seed=config["seed"])
    finished = not on_accelerator(job, policy)
    if not finished:
        say(f"--views={config['views']}: views are made on the GPU")
        trainer.finish_views = policy.halves[1]
    read = cached(job, policy.shrinking)

    def batches(start_step: int, share: Share) -> tf.data.Dataset:
        sizes = {"image_size": config["image_size"], "batch_size": config["batch_size"]}
        order = {"seed": config["seed"], "start_step": start_step, "share": share}
        pairs = {"policy": config["views"], "positives": config["positives"] or "image", "finished": finished}
        return view_batches(job.source, job.indices, **pairs, **sizes, **order, read=read)

    monitor, log = build_monitor(job, encoder, trainer.projector), RunLog(run)
    if not steps_done:
        first = next(iter(batches(0, WHOLE)))
        first = dict(zip(("views_a", "views_b"), trainer.views(first)))
        require_different_views(first)
        log.draw_views(first)
        draw_start(job, log, encoder, trainer)
        measure_start(monitor, log)
    sentinel = CollapseSentinel(
        on_collapse=job.conduct["on_collapse"],
        rows=run.metrics(),
        warmup_epochs=config["warmup_epochs"],
        rollback=checkpoint.roll_back,
        rate_factor=rate_factor,
        say=say,
    )
    # A bad epoch is written down, and no checkpoint is made of it.
    kept = trained.get_weights if trainer.average is None else trainer.average.values
    follow = in_step(trained, encoder, kept)
    callbacks = [*follow, monitor, sentinel, log, draw_norms(job, log), sentinel.action]
    # Before the checkpoint: a run that is killed between the two makes the epoch, and its snapshot, again.
    # And after the encoder is in step again, which a rollback has taken back meanwhile.
    callbacks += [*follow, Snapshots(job, encoder)]
    fit(job, trainer, batches, checkpoint=checkpoint, callbacks=callbacks)
    if trained is not encoder:
        encoder.set_weights(kept())
    return encoder


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["pretrain", *sys.argv[1:]])
