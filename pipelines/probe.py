"""Score a frozen encoder.

The features of every image are computed once. The linear classifier follows the seed paper: focal loss with gamma 4,
trained on half of the labelled part, its best epoch chosen by balanced accuracy on the other half, three trials, scored
on the test part. RUN_DIR/NAME gets scores.json, predictions.csv, probe.npz, figures and report.md, and with
--bn_calibrate the encoder.keras that was probed, which `bitkeras push` then takes.
"""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import tensorflow as tf

from bitkeras.callbacks.hparams import probe_scores, write_hparams
from bitkeras.data import DATASETS, ImageSource
from bitkeras.data.bad_images import BadImage, save_bad_images
from bitkeras.data.batches import naming_bad_images
from bitkeras.data.splits import SPLITS, Split, leakage_audit, load_split, save_split
from bitkeras.errors import UserError
from bitkeras.evaluation import figures
from bitkeras.evaluation.metrics import chance_level
from bitkeras.evaluation.probe import probe_probabilities
from bitkeras.evaluation.projection import tsne
from bitkeras.evaluation.report import write_report
from bitkeras.runs import RunFolder
from pipelines.command_flags import CommandFlags
from pipelines.encoder_scores import EncoderScores
from pipelines.encoders import calibrate, save_encoder
from pipelines.images import define_bad_image_flag, usable_images
from pipelines.pretrain import find_split
from pipelines.runtime import read_existing, say

AS_PRETRAINED = "as_pretrained"

FLAGS = CommandFlags()
FLAGS.text("run_dir", None, "A run that `bitkeras pretrain` has finished.", required=True)
FLAGS.text("name", "probe", "Folder of this probe below the run; another one for other flags.")
FLAGS.choice("dataset", AS_PRETRAINED, [AS_PRETRAINED, *DATASETS], "Images to probe on; another set needs --data_dir.")
FLAGS.text("data_dir", None, "The folder of the images; none: where pre-training found them.")
FLAGS.choice("split", "paper", SPLITS, "Of another --dataset; the run's own images keep the run's split.")
FLAGS.integer("trials", 3, "Linear classifiers with different seeds, averaged.", at_least=1)
FLAGS.integer("epochs", 100, "Passes over the labelled training part.", at_least=1)
FLAGS.number("focal_gamma", 4.0, "Gamma of the focal loss; 0 is cross-entropy.")
FLAGS.switch("balanced", False, "Weight classes by inverse frequency; the paper does not.")
FLAGS.integer("knn_k", 20, "Neighbours of the kNN classifier.", at_least=1)
FLAGS.number("knn_temperature", 0.07, "T of the kNN weights exp(cos/T).", at_least=1e-6)
FLAGS.integer("bn_calibrate", None, "Take batch norm's statistics anew from so many pre-training images.", at_least=1)
FLAGS.text("beside", None, "Other finished runs on the same split of the same images, with commas: in the same table.")
FLAGS.switch("baselines", True, "Score a random encoder, raw pixels and the majority class too.")
FLAGS.integer("seed", 0, "Of classifiers, bootstrap and t-SNE.", at_least=0)
define_bad_image_flag(FLAGS)


def main(_) -> None:
    """Flags become plain arguments."""
    options = FLAGS.values(without=["run_dir", "name", "data_dir", "on_bad_image"])
    if options["beside"]:
        options["beside"] = ",".join(str(Path(path).absolute()) for path in options["beside"].split(",") if path)
    probe(RunFolder(FLAGS.run_dir), FLAGS.name, options, data_dir=FLAGS.data_dir, on_bad_image=FLAGS.on_bad_image)


def probe(
    run: RunFolder, name: str, options: dict, *, data_dir: str | None = None, on_bad_image: str = "error"
) -> None:
    """Scores the run's encoder and its baselines on the test part.

    Args:
      run: a finished run.
      name: folder below it.
      options: the flags above but run_dir, name, data_dir and on_bad_image, name -> value.
      data_dir: where the images are, if they have moved.
      on_bad_image: one of `ON_BAD_IMAGE`, for another data set; the run's own images are those it listed.

    Raises:
      UserError: the run is not finished, has no labels, or was probed under this name with other flags.
    """
    config = run.config()
    results = RunFolder(run.path / name)
    require_finished(run)
    if config["method"] == "upstream":
        raise UserError(
            f"{run.path} is a run of `bitkeras upstream`, which keeps no labels for a probe; make another run of "
            f"its network with `bitkeras pretrain --weights={run.path} --norm=group --epochs=0`."
        )
    results.check(options)
    if (results.path / "report.md").exists():
        say(f"{results.path}: this probe is already finished; its report is {results.path / 'report.md'}.")
        return
    source, bad = read_probed(run, results, options, data_dir, on_bad_image=on_bad_image)
    if source.labels is None:
        raise UserError(
            f"{source.name} has no labels to probe with; pass a labelled set, such as "
            "--dataset=image_folder --data_dir=FOLDER."
        )
    split = find_probed_split(run, results, source, options)
    others = find_others(options, source, split)
    scores = EncoderScores(config, options, source, split)
    with naming_bad_images(source):
        encoder = find_encoder(run, scores, options)
    results.start({**options, "data_dir": data_dir and str(Path(data_dir).absolute())})
    if options["dataset"] != AS_PRETRAINED:
        if bad:
            save_bad_images(bad, results.bad_images_path)
        save_split(split, source, results.split_path)
    if options["bn_calibrate"]:
        save_encoder(results.encoder_path, config, encoder)
    tf.keras.utils.set_random_seed(options["seed"])
    with naming_bad_images(source):
        # First, since it reads the BiT weights again: if they have moved, nothing has been computed yet.
        baselines = scores.baseline_rows() if options["baselines"] else []
        started = time.perf_counter()
        say(f"{title(config)}: features and probe")
        features = scores.features(encoder)
        result = scores.probe(features)
        rows = [scores.row(title(config), features, result)]
        seconds = time.perf_counter() - started
        rows += [other_row(other, options, source, split) for other in others] + baselines
    kernel, bias = result.kernels[result.best_trial], result.biases[result.best_trial]
    scores.save_probe(results.path / "probe.npz", result)
    scores.save_predictions(results.path / "predictions.csv", probe_probabilities(features["test"], kernel, bias))
    run.write_json(results.path / "scores.json", rows)
    write_hparams(run.tensorboard_path / "hparams", config, probe_scores(name, rows[0]), step=config["epochs"])
    pictures = draw(run, results.path, scores, rows, features["test"])
    leakage = leakage_audit(split, source)["overall"]
    facts = {"Best rate of the probe": result.lr, "Seconds for features and probe": round(seconds, 1)}
    write_report(
        results.path,
        title=f"{title(config)}: {config['backbone']} on {source.name}",
        scores=rows,
        figures=pictures,
        facts={**describe(run, name, options, scores, data_dir), "leakage_share": leakage, **facts},
    )
    for row in rows:
        low, high = row["interval"]
        score = f"balanced accuracy {row['balanced_accuracy']:.3f} [{low:.3f}, {high:.3f}]"
        say(f"  {row['name']:<42} {score}  macro F1 {row['macro_f1']:.3f}")
    say(f"report: {results.path / 'report.md'}; next: bitkeras push --run_dir={run.path} --push_dir=...")


def find_encoder(run: RunFolder, scores: EncoderScores, options: dict) -> tf.keras.Model:
    """The run's encoder; with --bn_calibrate its batch norm has new statistics."""
    encoder = tf.keras.models.load_model(run.encoder_path)
    if options["bn_calibrate"]:
        images = scores.indices["pretrain"]
        calibrate(encoder, scores.config, scores.source, images, num_images=options["bn_calibrate"])
    return encoder


def find_others(options: dict, source: ImageSource, split: Split) -> list[RunFolder]:
    """The runs named by --beside.

    Raises:
      UserError: one is not finished, or has another split: its encoder may have seen the test images.
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
        if options["dataset"] == AS_PRETRAINED and (load_split(other.split_path, source).parts != split.parts).any():
            raise UserError(
                f"--beside={other.path} has another split of the images, so its encoder may have seen those of the "
                "test part; pass runs made with the same --split and --seed."
            )
    return others


def other_row(other: RunFolder, options: dict, source: ImageSource, split: Split) -> dict:
    """The scores of another run's encoder, as the probed one's."""
    config = other.config()
    # The folder, since two runs may differ in a flag that the title does not tell.
    name = f"{title(config)} ({other.path.name})"
    say(f"{name}: features and probe")
    scores = EncoderScores(config, options, source, split)
    features = scores.features(tf.keras.models.load_model(other.encoder_path))
    return scores.row(name, features, scores.probe(features))


def probed_encoder_path(run: RunFolder, name: str) -> Path:
    """The encoder that the probe `name` of a run belongs to."""
    results = RunFolder(run.path / name)
    return results.encoder_path if results.config().get("bn_calibrate") else run.encoder_path


def read_probed(
    run: RunFolder, results: RunFolder, options: dict, data_dir: str | None, *, on_bad_image: str = "error"
) -> tuple[ImageSource, list[BadImage]]:
    """The images that the probe of `options` in `results` is about, and those left out of them."""
    if options["dataset"] == AS_PRETRAINED:
        config = run.config()
        source = read_existing(config["dataset"], data_dir or config["data_dir"])
        return usable_images(run, source, on_bad_image=on_bad_image)
    if data_dir is None:
        raise UserError(
            f"--dataset={options['dataset']} is not what the run was trained on; say where with --data_dir."
        )
    return usable_images(results, read_existing(options["dataset"], data_dir), on_bad_image=on_bad_image)


def find_probed_split(run: RunFolder, results: RunFolder, source: ImageSource, options: dict) -> Split:
    """The run's split, or for another data set the probe's own."""
    if options["dataset"] == AS_PRETRAINED:
        return load_split(run.split_path, source)
    return find_split(results, source, options)


def require_finished(run: RunFolder) -> None:
    """UserError unless pre-training is done."""
    if not run.is_finished:
        raise UserError(
            f"Pre-training in {run.path} is not finished (there is no {run.encoder_path.name}); run the same "
            "`bitkeras pretrain` again."
        )


def title(config: dict) -> str:
    """What the encoder of a run is."""
    weights = config["weights"]
    start = "random weights" if weights == "none" else weights if "://" in weights else Path(weights).name
    if config["epochs"] == 0:
        return f"{start}, frozen" if config["norm"] == "group" else f"{start}, not trained on"
    return f"{config['method']} from {start}, {config['epochs']} epoch{'s' if config['epochs'] > 1 else ''}"


def draw(run: RunFolder, folder: Path, scores: EncoderScores, rows: list[dict], test_features) -> dict[str, Path]:
    """Caption -> PNG."""
    paths = {name: folder / "figures" / f"{name}.png" for name in ("scores", "curves", "tsne")}
    figures.plot_scores(rows, paths["scores"], chance=chance_level(scores.num_classes))
    figures.plot_curves(run.metrics(), paths["curves"])
    points = tsne(test_features, seed=scores.options["seed"])
    figures.plot_tsne(points, scores.labels["test"], scores.source.class_names, paths["tsne"])
    captions = ("Test scores with 95 % intervals", "Pre-training", "t-SNE of the test features")
    return dict(zip(captions, paths.values()))


def describe(run: RunFolder, name: str, options: dict, scores: EncoderScores, data_dir: str | None) -> dict:
    """What a reader of the report must know, and the commands that make it again."""
    config = scores.config
    parts = ", ".join(f"{part} {len(indices)}" for part, indices in scores.indices.items())
    commands = {
        "pretrain": {"run_dir": run.path, **config},
        "probe": {"run_dir": run.path, "name": name, **options, **({"data_dir": data_dir} if data_dir else {})},
    }
    return {
        "data": scores.source.summary(),
        "split": f"{config['split'] if options['dataset'] == AS_PRETRAINED else options['split']} ({parts})",
        "chance_level": chance_level(scores.num_classes),
        "num_test_images": len(scores.indices["test"]),
        "num_test_lesions": None if scores.groups is None else len(set(scores.groups)),
        "commands": [
            shlex.join(
                ["bitkeras", command, *(f"--{flag}={value}" for flag, value in flags.items() if value is not None)]
            )
            for command, flags in commands.items()
        ],
    }


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["probe", *sys.argv[1:]])
