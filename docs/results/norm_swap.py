"""How much knowledge survives the swap of the norm, before and after SimSiam: the runs behind norm_swap.md.

    python docs/results/norm_swap.py run --dataset=ham10000 --data_dir=DIR --weights=bit-m-mini --seed=0
    python docs/results/norm_swap.py run --dataset=ham10000 --data_dir=DIR --weights=none --seed=0
    python docs/results/norm_swap.py table

`run` goes through every way of swapping, for one model and one seed: retention, kNN and the linear probe right after
the swap, then 20 epochs of SimSiam from there, and both scores again. Training normalises by the statistics of each
batch, so calibrated or not is one and the same training. It may be killed and started again. `table` writes what the
runs below --runs found into norm_swap.json beside this file, and prints it.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.data import ImageSource, read_source
from bitkeras.data.split_files import load_split
from bitkeras.data.splits import Split
from bitkeras.evaluation.knn import knn_probabilities
from bitkeras.evaluation.metrics import bootstrap_difference, bootstrap_interval, score_row
from bitkeras.evaluation.probe import probe_probabilities
from bitkeras.runs import RunFolder
from pipelines import cli
from pipelines.encoder_scores import EncoderScores

# On CIFAR-10, too, the views of the paper's HAM10000 runs, for one table of one method.
FLAGS = "--flagfile=laptop --split=lesion --num_images=2560 --image_size=64 --base_lr=0.06".split()
CALIBRATION_IMAGES = 1024
# Whether fewer do as well where scale and offset are taken from them, too.
FEWER_IMAGES = (64, 256)
PROBE = {"trials": 3, "epochs": 100, "focal_gamma": 4.0, "knn_k": 20, "knn_temperature": 0.07, "seed": 0}
METRIC = "balanced_accuracy"
# The paper's probe takes every image alike; "weighted" takes every class alike.
KINDS = ("knn", "probe", "weighted")
SWAPS = [f"{ws}-{bn_init}" for ws, bn_init in itertools.product(("raw", "fold", "keep"), ("default", "copy"))]
# Needs images; kept or folded, standardised kernels compute the same, so one of them stands for both.
SWAPS.append("fold-match")


def arms(weights: str, epochs: int, folder: Path) -> dict[str, list[str]]:
    """Name -> flags of `bitkeras pretrain`; a name is the network, the images it is calibrated on, and its epochs."""
    backbone, trained = "--backbone=R26x0.25", f"--epochs={epochs}"
    if weights == "none":
        return {f"random none {epochs}": [backbone, trained]}
    found = {"group none 0": ["--norm=group", f"--weights={weights}", backbone, "--epochs=0"]}
    for swap in SWAPS:
        ws, bn_init = swap.split("-")
        flags = [f"--weights={weights}", backbone, f"--ws={ws}", f"--bn_init={bn_init}"]
        for images in (*(FEWER_IMAGES if bn_init == "match" else (0,)), CALIBRATION_IMAGES):
            found[f"{swap} {images} 0"] = [*flags, f"--bn_calibrate={images}", "--epochs=0"]
        start = folder / f"{swap}_{CALIBRATION_IMAGES}_0"
        found[f"{swap} {CALIBRATION_IMAGES} {epochs}"] = [f"--weights={start}", trained]
    return found


def run(options: argparse.Namespace) -> None:
    """Every arm of one data set, model and seed."""
    folder = options.runs / f"{options.dataset}_{options.weights}_{options.seed}"
    data_dir = options.data_dir
    if options.dataset == "cifar10":
        data_dir = part_of_cifar10(Path(options.data_dir).absolute(), options.runs / "cifar10")
    data = [f"--dataset={options.dataset}", f"--data_dir={data_dir}", f"--seed={options.seed}"]
    for name, flags in arms(options.weights, options.epochs, folder).items():
        run_dir = folder / name.replace(" ", "_")
        if (run_dir / "scores.json").exists():
            continue
        print(f"\n== {folder.name}: {name}", flush=True)
        cli.run("pretrain", [*FLAGS, *data, *flags, f"--run_dir={run_dir}"])
        score(RunFolder(run_dir))
        tf.keras.backend.clear_session()


def part_of_cifar10(data_dir: Path, folder: Path) -> Path:
    """Links to as many images as HAM10000 has to pre-train and probe on: 680 and 200 of each class (train/, test/)."""
    for part, number in (("train", 680), ("test", 200)):
        for images in sorted((data_dir / part).iterdir()):
            (folder / part / images.name).mkdir(parents=True, exist_ok=True)
            for image in np.random.default_rng(0).permutation(sorted(images.iterdir()))[:number]:
                link = folder / part / images.name / image.name
                if not link.exists():
                    link.symlink_to(image)
    return folder


def score(run: RunFolder) -> None:
    """Nearest neighbours and linear probes on the test part: predictions.npz, and last scores.json."""
    config = run.config()
    source = read_source(config["dataset"], config["data_dir"])
    split = load_split(run.split_path, source)
    try:
        found = predict(config, source, split, tf.keras.models.load_model(run.encoder_path))
    except FloatingPointError as error:
        run.write_json(run.path / "scores.json", {"not_finite": str(error)})
        return
    test = split.indices("test")
    groups = np.arange(len(test)) if source.groups is None else source.groups[test]
    np.savez(run.path / "predictions.npz", labels=source.labels[test], groups=groups, **found)
    scores = {kind: float(score_row(kind, source.labels[test], rows)[METRIC]) for kind, rows in found.items()}
    run.write_json(run.path / "scores.json", scores)


def predict(config: dict, source: ImageSource, split: Split, encoder: tf.keras.Model) -> dict[str, np.ndarray]:
    """Kind of classifier -> the classes it gives to the test images, int [T, N] for T trials."""
    found = {}
    for kind in KINDS[1:]:
        scores = EncoderScores(config, {**PROBE, "balanced": kind == "weighted"}, source, split)
        if not found:
            features = scores.features(encoder)
            votes = knn_probabilities(
                features["probe_train"],
                scores.labels["probe_train"],
                features["test"],
                num_classes=scores.num_classes,
                k=PROBE["knn_k"],
                temperature=PROBE["knn_temperature"],
            )
            found[KINDS[0]] = votes.argmax(axis=1)[np.newaxis]
        result = scores.probe(features)
        trials = zip(result.kernels, result.biases)
        found[kind] = np.stack([probe_probabilities(features["test"], *trial).argmax(axis=1) for trial in trials])
    return found


def table(options: argparse.Namespace) -> None:
    """Collects the scores, and prints a line for each arm: over the seeds, with the difference to the paper's swap."""
    found = []
    for path in sorted(options.runs.glob("*/*/scores.json")):
        config = RunFolder(path.parent).config()
        retention = path.with_name("retention.json")
        arm = dict(zip(("network", "calibrated_on", "epochs"), path.parent.name.split("_")))
        kept = json.loads(retention.read_text())["stages"] if retention.exists() else None
        facts = {key: config[key] for key in ("dataset", "seed")} | {"model": path.parts[-3].split("_")[1], **arm}
        row = {**facts, "retention": kept, "scores": json.loads(path.read_text())}
        if "not_finite" not in row["scores"]:
            row |= compared(
                path.parent, path.parents[1] / "_".join(["raw-default", str(CALIBRATION_IMAGES), arm["epochs"]])
            )
        found.append(row)
    Path(__file__).with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    overview(found)
    for case in sorted({(row["dataset"], row["model"]) for row in found}):
        rows = [row for row in found if (row["dataset"], row["model"]) == case]
        print(f"\n{case[0]}, {case[1]}\n")
        print("| network | calibrated on | epochs | cosine | CKA | kNN | probe | probe, classes weighted |")
        print("|---|---|---|---|---|---|---|---|")
        for arm in dict.fromkeys((row["network"], row["calibrated_on"], row["epochs"]) for row in rows):
            same = [row for row in rows if (row["network"], row["calibrated_on"], row["epochs"]) == arm]
            print("| " + " | ".join([*arm, *cells(same)]) + " |")


def overview(found: list[dict]) -> None:
    """Prints kNN and probe before and after SimSiam, means over the seeds, with a column for each case."""
    cases = sorted({(row["dataset"], row["model"]) for row in found})
    for kind in KINDS[:2]:
        print(f"\n| {kind}, before -> after SimSiam | " + " | ".join(" ".join(case) for case in cases) + " |")
        print("|---" * (1 + len(cases)) + "|")
        for network in ("group", *SWAPS, "random"):
            calibrated_on = "none" if network in ("group", "random") else str(CALIBRATION_IMAGES)
            columns = []
            for case in cases:
                rows = [row for row in found if (row["dataset"], row["model"], row["network"]) == (*case, network)]
                rows = [row for row in rows if row["calibrated_on"] == calibrated_on and kind in row["scores"]]
                of_epochs = [[row["scores"][kind] for row in rows if row["epochs"] == e] for e in ("0", "20")]
                columns.append(" -> ".join(f"{np.mean(scores):.3f}" if scores else "" for scores in of_epochs))
            print(f"| {network} | " + " | ".join(columns) + " |")


def compared(folder: Path, reference: Path) -> dict:
    """95 % intervals over test lesions: of each score, and of its difference to the run `reference`, paired."""
    ours = np.load(folder / "predictions.npz")
    options = {"groups": ours["groups"]}
    intervals = {kind: bootstrap_interval(METRIC, ours["labels"], ours[kind], **options) for kind in KINDS}
    if folder == reference or not (reference / "predictions.npz").exists():
        return {"intervals": intervals}
    theirs = np.load(reference / "predictions.npz")
    differences = {
        kind: bootstrap_difference(METRIC, ours["labels"], ours[kind], theirs[kind], **options) for kind in KINDS
    }
    return {"intervals": intervals, "differences": differences}


def cells(rows: list[dict]) -> list[str]:
    """Likeness and scores of one arm over its seeds."""
    kept = [row["retention"]["features"] for row in rows if row["retention"]]
    likeness = [cell([stage[measure] for stage in kept]) for measure in ("cosine", "cka")]
    finite = [row for row in rows if "intervals" in row]
    if not finite:
        return [*likeness, *["not finite"] * len(KINDS)]
    return [*likeness, *(score_cell(finite, kind) for kind in KINDS)]


def score_cell(rows: list[dict], kind: str) -> str:
    """`mean (each seed) [interval, its ends averaged over the seeds]`, then the `sign` of each seed's difference."""
    low, high = np.mean([row["intervals"][kind] for row in rows], axis=0)
    signs = "".join(sign(*row["differences"][kind]) for row in rows if "differences" in row)
    return f"{cell([row['scores'][kind] for row in rows])} [{low:.3f}, {high:.3f}] {signs}".rstrip()


def sign(low: float, high: float) -> str:
    """Whether an interval of a difference leaves out 0, and on which side."""
    return "+" if low > 0 else "-" if high < 0 else "0"


def cell(values: list[float | None]) -> str:
    """Mean and each value, to three digits."""
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values):
        return f"{len(numbers)} of {len(values)} finite"
    return f"{np.mean(numbers):.3f} ({' '.join(f'{value:.3f}' for value in numbers)})" if numbers else ""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--runs", type=Path, default=Path("runs/norm_swap"))
    parser.add_argument("--dataset", default="ham10000")
    parser.add_argument("--data_dir")
    parser.add_argument("--weights", default="bit-m-mini")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    {"run": run, "table": table}[arguments.what](arguments)
