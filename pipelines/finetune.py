"""Train the whole network of a run on the labels: what a user would do without a frozen encoder.

The network of RUN_DIR (of `bitkeras pretrain --epochs=0` a BiT network as it is, or random weights) and a linear head
are trained on the part probe_train of the run's split, with random crops and flips; rate and epoch are chosen by
balanced accuracy on probe_val, and the test part is scored once. RUN_DIR/NAME gets what a probe leaves there, and
encoder.keras, so `bitkeras compare RUN_DIR:NAME ...` and `bitkeras push --name=NAME` take it as one. Stopped or killed,
the same command goes on after the last rate that was tried to its end.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.backbones.matmul_convs import use_matmuls
from bitkeras.data.batches import labelled_batches, naming_bad_images, num_steps_per_epoch
from bitkeras.data.label_fractions import LABEL_UNITS, label_fraction_line, with_fewer_labels
from bitkeras.data.split_files import save_split
from bitkeras.errors import UserError
from bitkeras.evaluation.probe import ProbeResult, grid_edges
from bitkeras.methods.finetuning import Best, Choosing, classifier_of, finetune, load_best, save_best
from bitkeras.precision import precision_policy
from bitkeras.runs import RunFolder
from bitkeras.schedules import scaled_lr, warmup_cosine
from bitkeras.sgd import SGD
from pipelines import runtime
from pipelines.clinical import calibrated
from pipelines.command_flags import CommandFlags
from pipelines.encoder_scores import EncoderScores
from pipelines.encoders import build_encoder, save_encoder
from pipelines.grids import parse_grid
from pipelines.leakage import RECORD, audit_probe
from pipelines.probe import SHARE, find_probed_split, read_probed, require_labels_apart
from pipelines.probe_report import AS_PRETRAINED
from pipelines.probe_results import Found, conclude
from pipelines.report_arms import title
from pipelines.runtime import say

FLAGS = CommandFlags()
FLAGS.text("run_dir", None, "A run that `bitkeras pretrain` has finished.", required=True)
FLAGS.text("name", "finetune", "Folder of the result below the run; another one for other flags.")
FLAGS.text("data_dir", None, "The folder of the images; none: where pre-training found them.")
FLAGS.number("label_fraction", 1.0, "Share of the labels to train on, of each class; validation keeps all.", **SHARE)
FLAGS.choice("label_unit", "image", LABEL_UNITS, "What --label_fraction draws: images, or lesions with all photos.")
FLAGS.integer("epochs", 60, "Passes over the labelled training part, for each rate.", at_least=1)
FLAGS.integer("batch_size", 64, "Images a step; with fewer labels, all of them.", at_least=2)
FLAGS.text("lr_grid", "0.003,0.01,0.03,0.1", "Peak rates per 256 images, with commas; the best on validation is taken.")
FLAGS.number("weight_decay", 5e-4, "Added to the gradient of every weight, as PyTorch's SGD does.")
FLAGS.number("min_crop_area", 0.5, "Smallest share of an image that a crop covers.", at_least=0.01, at_most=1.0)
FLAGS.switch("balanced", False, "Weight classes by inverse frequency.")
FLAGS.integer("knn_k", 20, "Neighbours of the kNN classifier on the new features.", at_least=1)
FLAGS.number("knn_temperature", 0.07, "T of its weights exp(cos/T).", at_least=1e-6)
FLAGS.choice("precision", "auto", runtime.PRECISIONS, "auto: a mixed one where the hardware has it, else float32.")
FLAGS.switch("find_duplicates", True, "Look for near-duplicates of the test images, unless pre-training already has.")
FLAGS.integer("seed", 0, "Of order, crops, labels that are left, bootstrap and t-SNE.", at_least=0)

TRIED = "tried_rates"
# What is recorded beside the flags, for those who read folders of probes.
AS_PROBES = {"command": "finetune", "dataset": AS_PRETRAINED}


def main(_) -> None:
    """Flags become plain arguments."""
    options = FLAGS.values(without=["run_dir", "name", "data_dir", "find_duplicates"])
    if options["label_fraction"] == 1:
        options.update(label_fraction=None, label_unit=None)
    given = FLAGS.values(only=["data_dir", "find_duplicates"])
    finetune_run(RunFolder(FLAGS.run_dir), FLAGS.name, {**options, **AS_PROBES}, **given)


def finetune_run(
    run: RunFolder, name: str, options: dict, *, data_dir: str | None = None, find_duplicates: bool = True
) -> None:
    """Trains, scores and reports.

    Args:
      run: a finished run.
      name: folder below it.
      options: the flags above but run_dir, name and the two below, name -> value, and the dataset of a probe.
      data_dir: where the images are, if they have moved.
      find_duplicates: look for near-duplicates of the test images.

    Raises:
      UserError: the run is not finished, has no labels, or NAME holds something made with other flags.
    """
    config, results = run.config(), RunFolder(run.path / name)
    rates = parse_grid("lr_grid", options["lr_grid"])
    require_labels_apart(run)
    results.check(options)
    if (results.path / "report.md").exists():
        say(f"{results.path}: this is already finished; its report is {results.path / 'report.html'}.")
        return
    source, _ = read_probed(run, results, options, data_dir)
    if source.labels is None:
        raise UserError(f"{source.name} has no labels to train on; pre-train on a labelled set, with --epochs=0 too.")
    source, split = find_probed_split(run, results, source, options)
    whole = split
    if options["label_fraction"]:
        split = with_fewer_labels(
            whole, source, options["label_fraction"], unit=options["label_unit"], seed=options["seed"]
        )
        say(label_fraction_line(whole, split, source))
    scores = EncoderScores(config, options, source, split)
    results.start({**options, "data_dir": data_dir and str(Path(data_dir).absolute())})
    if split is not whole:
        save_split(split, source, results.path / "labels.csv")
    with naming_bad_images(source):
        leakage = audit_probe(run, source, split, as_pretrained=True, own_images=True, duplicates=find_duplicates)
        run.write_json(results.path / RECORD, leakage)
        tried = {rate: tried_once(run, scores, options, rate, results.path / TRIED) for rate in rates}
        rate = max(tried, key=lambda rate: tried[rate].score)
        edges = grid_edges([(each, 0.0) for each in tried], np.array([each.score for each in tried.values()]))
        for edge in edges:
            say(f"  {edge}; a longer grid may do better")
        best = tried[rate]
        encoder = tf.keras.models.load_model(run.encoder_path)
        encoder.set_weights(best.weights)
        save_encoder(results.encoder_path, config, encoder)
        row_name = title(config, fine_tuned=True)
        features = scores.features(encoder)
        result = calibrated(scores, features, as_probe(best, rate, options, edges))
        rows = [scores.row(row_name, features, result)]
    facts = {
        "Best rate": rate,
        "Best epoch": best.epoch,
        "Seconds of training": round(sum(each.seconds for each in tried.values()), 1),
    }
    facts |= {"Edge of the grid": "; ".join(edges)} if edges else {}
    if split is not whole:
        facts["Labels"] = f"--label_fraction={options['label_fraction']:g}: {label_fraction_line(whole, split, source)}"
    found = Found(row_name, features, result, rows, [], leakage, facts)
    conclude(run, name, options, scores, found, data_dir=data_dir)
    shutil.rmtree(results.path / TRIED)


def tried_once(run: RunFolder, scores: EncoderScores, options: dict, rate: float, folder: Path) -> Best:
    """The best epoch of one rate: out of `folder`, where an earlier process has left it, or trained and left there."""
    path = folder / f"rate_{rate!r}.npz"
    if path.exists():
        best = load_best(path)
        say(f"rate {rate:g} was tried before: validation {best.score:.3f} in epoch {best.epoch}")
        return best
    started = time.perf_counter()
    best = dataclasses.replace(train(run, scores, options, rate), seconds=time.perf_counter() - started)
    save_best(best, path)
    return best


def train(run: RunFolder, scores: EncoderScores, options: dict, rate: float) -> Best:
    """The best epoch of one rate."""
    config, source, labelled = scores.config, scores.source, scores.indices["probe_train"]
    precision, _ = runtime.choose_precision(options["precision"])
    batch_size = min(options["batch_size"], len(labelled))
    steps = num_steps_per_epoch(len(labelled), batch_size)
    # The same order, crops and head for every rate.
    tf.keras.utils.set_random_seed(options["seed"])
    with precision_policy(precision):
        encoder = build_encoder(config)
        encoder.set_weights(tf.keras.models.load_model(run.encoder_path).get_weights())
        classifier = classifier_of(encoder, scores.num_classes)
        use_matmuls(encoder)
        schedule = warmup_cosine(
            scaled_lr(rate, batch_size), num_steps=steps * options["epochs"], warmup_steps=min(steps, 10)
        )
        batches = labelled_batches(
            *(source, labelled),
            crop_area=(options["min_crop_area"], 1.0),
            image_size=config["image_size"],
            batch_size=batch_size,
            seed=options["seed"],
        )

        def tell(epoch: int, loss: float, score: float, is_best: bool) -> None:
            mark = ", the best" if is_best else ""
            say(f"rate {rate:g}, epoch {epoch}/{options['epochs']}  loss {loss:.4f}  validation {score:.3f}{mark}")

        val = scores.indices["probe_val"]
        seen = {"images": scores.batches(val).cache(), "labels": source.labels[val], "tell": tell}
        return finetune(
            *(classifier, encoder, batches),
            optimizer=SGD(schedule, momentum=0.9),
            num_epochs=options["epochs"],
            steps_per_epoch=steps,
            weight_decay=options["weight_decay"],
            class_weights=scores.class_weights(),
            choosing=Choosing(classifier, encoder, **seen),
        )


def as_probe(best: Best, rate: float, options: dict, edges: tuple[str, ...]) -> ProbeResult:
    """The head as the classifier of one trial."""
    return ProbeResult(
        kernels=best.kernel[np.newaxis],
        biases=best.bias[np.newaxis],
        val_scores=np.array([best.score]),
        best_trial=0,
        best_epochs=np.array([best.epoch]),
        lr=rate,
        weight_decay=options["weight_decay"],
        grid_edges=edges,
        val_history=np.array([best.history]),
    )


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["finetune", *sys.argv[1:]])
