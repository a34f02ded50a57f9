"""Score a frozen encoder.

The features of every image are computed once. The linear classifier follows the seed paper: focal loss with gamma 4,
trained on half of the labelled part, its best epoch chosen by balanced accuracy on the other half, three trials, scored
on the test part. Probabilities are calibrated by a temperature fitted on the validation part. With --split the run's
images are scored in other parts than it was pre-trained with, to see how much of a score is leakage. RUN_DIR/NAME gets
scores.json, card.json (what a clinician asks), predictions.csv, predictions.npz, probe.npz, leakage.json, figures and
the report (report.html, report.md, report.json), with --label_fraction the labels.csv that were left, with --split its
split.csv, and with --bn_calibrate the encoder.keras that was probed, which `bitkeras push` then takes.
"""

from __future__ import annotations

import time
from pathlib import Path

import tensorflow as tf

from bitkeras.data import DATASETS, ImageSource
from bitkeras.data.bad_images import BadImage, save_bad_images
from bitkeras.data.batches import naming_bad_images
from bitkeras.data.label_fractions import LABEL_UNITS, label_fraction_line, with_fewer_labels
from bitkeras.data.split_files import load_split, save_split, with_lesions_of
from bitkeras.data.splits import Split
from bitkeras.errors import UserError
from bitkeras.evaluation.feature_cache import FeatureCache
from bitkeras.runs import RunFolder
from pipelines.clinical import calibrated
from pipelines.command_flags import CommandFlags
from pipelines.encoder_scores import EncoderScores
from pipelines.encoders import calibrate, save_encoder
from pipelines.grids import define_grid_flags, settled_grids
from pipelines.images import define_bad_image_flag, usable_images
from pipelines.leakage import RECORD, audit_probe
from pipelines.probe_report import AS_PRETRAINED
from pipelines.probe_results import Found, conclude
from pipelines.report_arms import title
from pipelines.runtime import define_reader_flags, read_existing, refuse_reader_options, say
from pipelines.splitting import define_split_flags, find_split, settled_probe_split, split_seed

SHARE = {"at_least": 0.001, "at_most": 1.0}

FLAGS = CommandFlags()
FLAGS.text("run_dir", None, "A run that `bitkeras pretrain` has finished.", required=True)
FLAGS.text("name", "probe", "Folder of this probe below the run; another one for other flags.")
FLAGS.choice("dataset", AS_PRETRAINED, [AS_PRETRAINED, *DATASETS], "Images to probe on; another set needs --data_dir.")
FLAGS.text("data_dir", None, "The folder of the images; none: where pre-training found them.")
define_reader_flags(FLAGS)
define_split_flags(
    FLAGS,
    "None: the run's own split (of another --dataset: paper). Given for the run's own images, by the seed of the run's "
    "split, the report says how many test images pre-training has seen.",
    default=None,
)
FLAGS.number("label_fraction", 1.0, "Share of the labels to train on, of each class; validation keeps all.", **SHARE)
FLAGS.choice("label_unit", "image", LABEL_UNITS, "What --label_fraction draws: images, or lesions with all photos.")
FLAGS.integer("trials", 3, "Linear classifiers with different seeds, averaged.", at_least=1)
FLAGS.integer("epochs", 100, "Passes over the labelled training part.", at_least=1)
FLAGS.number("focal_gamma", 4.0, "Gamma of the focal loss; 0 is cross-entropy.")
FLAGS.switch("balanced", False, "Weight classes by inverse frequency; the paper does not.")
what = "Neighbours of the kNN classifier. Published: 200, by Wu et al. (arXiv 1805.01978) and SimSiam's authors."
FLAGS.integer("knn_k", 20, what, at_least=1)
what = "T of the kNN weights exp(cos/T). Published: 0.07 by Wu et al., 0.2 by SimSiam's authors."
FLAGS.number("knn_temperature", 0.07, what, at_least=1e-6)
FLAGS.integer("bn_calibrate", None, "Take batch norm's statistics anew from so many pre-training images.", at_least=1)
FLAGS.text("beside", None, "Other finished runs on the same split of the same images, with commas: in the same table.")
FLAGS.switch("baselines", True, "Score a random encoder, raw pixels, colours and the majority class too.")
FLAGS.switch("find_duplicates", True, "Look for near-duplicates of the test images, unless pre-training already has.")
FLAGS.integer("seed", 0, "Of classifiers, bootstrap and t-SNE.", at_least=0)
define_grid_flags(FLAGS)
FLAGS.text("feature_cache", None, "Folder of computed features; none: RUN_DIR/features; empty: keep none.")
define_bad_image_flag(FLAGS)


def main(_) -> None:
    """Flags become plain arguments."""
    conduct = ("data_dir", "on_bad_image", "find_duplicates", "feature_cache")
    options = settled_options(FLAGS.values(without=["run_dir", "name", *conduct]))
    if options["beside"]:
        options["beside"] = ",".join(str(Path(path).absolute()) for path in options["beside"].split(",") if path)
    if options["label_fraction"] == 1:
        # As probes of earlier versions have it, which knew no other.
        options.update(label_fraction=None, label_unit=None)
    probe(RunFolder(FLAGS.run_dir), FLAGS.name, options, **FLAGS.values(only=conduct))


def settled_options(options: dict) -> dict:
    """Flags as they take effect; UserError for those that do not go together."""
    own_images = options["dataset"] == AS_PRETRAINED
    return settled_grids(settled_probe_split(options, own_images=own_images))


def probe(
    run: RunFolder,
    name: str,
    options: dict,
    *,
    data_dir: str | None = None,
    on_bad_image: str = "error",
    find_duplicates: bool = True,
    feature_cache: str | None = None,
) -> None:
    """Scores the run's encoder and its baselines on the test part.

    Args:
      run: a finished run.
      name: folder below it.
      options: the flags above but run_dir, name and the four below, name -> value.
      data_dir: where the images are, if they have moved.
      on_bad_image: one of `ON_BAD_IMAGE`, for another data set; the run's own images are those it listed.
      find_duplicates: look for near-duplicates of the test images.
      feature_cache: the folder where features are kept; None is the run's own, "" keeps none.

    Raises:
      UserError: the run is not finished, has no labels, or was probed under this name with other flags.
    """
    config = run.config()
    results = RunFolder(run.path / name)
    require_labels_apart(run)
    results.check(options)
    if (results.path / "report.md").exists():
        say(f"{results.path}: this probe is already finished; its report is {results.path / 'report.html'}.")
        return
    source, bad = read_probed(run, results, options, data_dir, on_bad_image=on_bad_image)
    if source.labels is None:
        raise UserError(
            f"{source.name} has no labels to probe with; pass a labelled set, such as "
            "--dataset=image_folder --data_dir=FOLDER."
        )
    source, split = find_probed_split(run, results, source, options)
    others, whole = find_others(run, options, source), split
    if options["label_fraction"]:
        fraction, unit = options["label_fraction"], options["label_unit"]
        split = with_fewer_labels(whole, source, fraction, unit=unit, seed=options["seed"])
        say(label_fraction_line(whole, split, source))
    cache = FeatureCache(run.path / "features" if feature_cache is None else feature_cache, say=say)
    scores = EncoderScores(config, options, source, split, cache=cache)
    with naming_bad_images(source):
        encoder = find_encoder(run, scores, options)
    results.start({**options, "data_dir": data_dir and str(Path(data_dir).absolute())})
    if options["dataset"] != AS_PRETRAINED and bad:
        save_bad_images(bad, results.bad_images_path)
    if not keeps_split(options):
        save_split(whole, source, results.split_path)
    if split is not whole:
        save_split(split, source, results.path / "labels.csv")
    if options["bn_calibrate"]:
        save_encoder(results.encoder_path, config, encoder)
    with naming_bad_images(source):
        kind = {"as_pretrained": keeps_split(options), "own_images": options["dataset"] == AS_PRETRAINED}
        leakage = audit_probe(run, source, split, **kind, duplicates=find_duplicates)
        run.write_json(results.path / RECORD, leakage)
        # The random encoder is the same one, whatever was built before.
        tf.keras.utils.set_random_seed(options["seed"])
        # First, since it reads the BiT weights again: if they have moved, nothing has been computed yet.
        baselines = scores.baseline_rows() if options["baselines"] else []
        started = time.perf_counter()
        say(f"{title(config)}: features and probe")
        features = scores.features(encoder)
        result = calibrated(scores, features, scores.probe(features))
        rows = [scores.row(title(config), features, result)]
        seconds = time.perf_counter() - started
        rows += [other_row(other, scores) for other in others] + baselines
    facts = {"Best rate of the probe": result.lr, "Best weight decay of the probe": result.weight_decay}
    facts |= {"Edge of the grid": "; ".join(result.grid_edges)} if result.grid_edges else {}
    facts["Seconds for features and probe"] = round(seconds, 1)
    if split is not whole:
        facts["Labels"] = f"--label_fraction={options['label_fraction']:g}: {label_fraction_line(whole, split, source)}"
    found = Found(title(config), features, result, rows, others, leakage, facts)
    conclude(run, name, options, scores, found, data_dir=data_dir)


def require_labels_apart(run: RunFolder) -> None:
    """UserError where a run is not finished, or was trained on all labels there are."""
    require_finished(run)
    if run.config()["method"] == "upstream":
        raise UserError(
            f"{run.path} is a run of `bitkeras upstream`, which keeps no labels for a probe; make another run of "
            f"its network with `bitkeras pretrain --weights={run.path} --norm=group --epochs=0`."
        )


def find_encoder(run: RunFolder, scores: EncoderScores, options: dict) -> tf.keras.Model:
    """The run's encoder; with --bn_calibrate its batch norm has new statistics."""
    encoder = tf.keras.models.load_model(run.encoder_path)
    if options["bn_calibrate"]:
        images = scores.indices["pretrain"]
        calibrate(encoder, scores.config, scores.source, images, num_images=options["bn_calibrate"])
    return encoder


def keeps_split(options: dict) -> bool:
    """Whether the probe of these options is about the run's own images in the parts that the run gave them."""
    return options["dataset"] == AS_PRETRAINED and not options.get("resplit")


def find_others(run: RunFolder, options: dict, source: ImageSource) -> list[RunFolder]:
    """The runs named by --beside.

    Raises:
      UserError: one is not finished, or has another split: its encoder has seen other images than that of `run`.
    """
    others = [RunFolder(path) for path in (options["beside"] or "").split(",") if path]
    if others and options["bn_calibrate"]:
        raise UserError(
            "--bn_calibrate gives new statistics to the probed encoder and not to those of --beside; leave out one of "
            "the two."
        )
    for other in others:
        other.config()
        require_finished(other)
        if options["dataset"] == AS_PRETRAINED and parts_differ(run, other, source):
            raise UserError(
                f"--beside={other.path} has another split of the images, so its encoder may have seen those of the "
                "test part; pass runs made with the same --split and --seed."
            )
    return others


def parts_differ(run: RunFolder, other: RunFolder, source: ImageSource) -> bool:
    """Whether two runs have parted their images differently."""
    return bool((load_split(other.split_path, source).parts != load_split(run.split_path, source).parts).any())


def other_row(other: RunFolder, scores: EncoderScores) -> dict:
    """The scores of another run's encoder, as the probed one's; its answers go beside those of `scores`."""
    config = other.config()
    # The folder, since two runs may differ in a flag that the title does not tell.
    name = f"{title(config)} ({other.path.name})"
    name = f"{title(config)} ({other.path})" if name in scores.answers else name
    say(f"{name}: features and probe")
    theirs = EncoderScores(config, scores.options, scores.source, scores.split, cache=scores.cache)
    features = theirs.features(tf.keras.models.load_model(other.encoder_path))
    row = theirs.row(name, features, theirs.probe(features))
    scores.answers.update(theirs.answers)
    return row


def probed_encoder_path(run: RunFolder, name: str) -> Path:
    """The encoder that the probe `name` of a run belongs to: one of its own with --bn_calibrate or fine-tuning."""
    own = RunFolder(run.path / name).encoder_path
    return own if own.exists() else run.encoder_path


def read_probed(
    run: RunFolder, results: RunFolder, options: dict, data_dir: str | None, *, on_bad_image: str = "error"
) -> tuple[ImageSource, list[BadImage]]:
    """The images that the probe of `options` in `results` is about, and those left out of them."""
    if options["dataset"] == AS_PRETRAINED:
        refuse_reader_options(options)
        return usable_images(run, read_existing(run.config(), data_dir), on_bad_image=on_bad_image)
    if data_dir is None:
        raise UserError(
            f"--dataset={options['dataset']} is not what the run was trained on; say where with --data_dir."
        )
    return usable_images(results, read_existing(options, data_dir), on_bad_image=on_bad_image)


def find_probed_split(
    run: RunFolder, results: RunFolder, source: ImageSource, options: dict
) -> tuple[ImageSource, Split]:
    """The run's split, or the probe's own; `source` with the lesions of a table that one brought."""
    if options["dataset"] != AS_PRETRAINED:
        return find_split(results, source, options)
    source = with_lesions_of(run.split_path, source)
    if keeps_split(options):
        return source, load_split(run.split_path, source)
    # By the seed of the run's, so that all probes of runs with one split have one again.
    return find_split(results, source, {**options, "seed": split_seed(run.config())})


def require_finished(run: RunFolder) -> None:
    """UserError unless pre-training is done."""
    if not run.is_finished:
        raise UserError(
            f"Pre-training in {run.path} is not finished (there is no {run.encoder_path.name}); run the same "
            "`bitkeras pretrain` again."
        )


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["probe", *sys.argv[1:]])
