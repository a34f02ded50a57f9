"""What the leakage audit finds on HAM10000 and CIFAR-10, and where its threshold comes from.

    python docs/results/leakage.py --table=HAM10000_metadata.csv --ham10000=HAM10000 --cifar10=CIFAR10

The table may name images that are not there; sister photos are counted from it alone. A stranger is an image of another
lesion. Copies are made of every 20th image: what people do to pictures without meaning to make new ones.
"""

from __future__ import annotations

import argparse

import numpy as np
import tensorflow as tf

from bitkeras.backbones import build_backbone
from bitkeras.backbones.pretrained import fill, read_pretrained
from bitkeras.backbones.stages import stage_features
from bitkeras.data import read_source
from bitkeras.data.batches import image_batches
from bitkeras.data.ham10000 import HAM10000_CLASSES, read_ham10000_table
from bitkeras.data.leakage import leakage_audit
from bitkeras.data.preprocess import resize, to_model_range
from bitkeras.data.source import ImageSource
from bitkeras.data.splits import SPLITS
from bitkeras.evaluation.duplicates import NEAR, fit_whitening
from bitkeras.evaluation.knn import unit_rows

NETWORK, SIZE, SEEDS = "bit-m-mini", 64, 50
STAGES = ("block2", "block3", "block4", "features")
COPIES = {
    "JPEG of quality 20": lambda image: tf.io.decode_jpeg(tf.io.encode_jpeg(image, quality=20)),
    "half the size": lambda image: tf.image.resize(image, [image.shape[0] // 2, image.shape[1] // 2]),
    "cropped to 95 % a side": lambda image: tf.image.central_crop(image, 0.95),
    "cropped to 90 % a side": lambda image: tf.image.central_crop(image, 0.9),
    "a quarter brighter": lambda image: tf.clip_by_value(1.25 * tf.cast(image, tf.float32), 0, 255),
    "saturation 0.8": lambda image: tf.image.adjust_saturation(image, 0.8),
    "mirrored": tf.image.flip_left_right,
}


def main() -> None:
    """Prints the tables of leakage.md."""
    parser = argparse.ArgumentParser()
    for name in ("table", "ham10000", "cifar10"):
        parser.add_argument(f"--{name}", required=True)
    arguments = parser.parse_args()
    sisters_of_table(arguments.table)
    network = build_network()
    lesions, cifar = read_source("ham10000", arguments.ham10000), read_source("cifar10", arguments.cifar10)
    photos, copies = encode(network, lesions), encode_copies(network, lesions)
    compare_stages(lesions, photos, copies)
    compare_small_sets(lesions, photos, copies)
    compare_thresholds(lesions, photos, copies, cifar, encode(network, cifar)["block3"])


def header(*names: str) -> str:
    """The first two lines of a table."""
    return f"\n| {' | '.join(names)} |\n|{'---|' * len(names)}"


def sisters_of_table(path: str) -> None:
    """Test images with a sister photo in another part, over seeds."""
    rows = read_ham10000_table(path)
    source = ImageSource(
        "ham10000",
        np.array([row["image_id"] for row in rows]),
        labels=np.array([HAM10000_CLASSES.index(row["dx"]) for row in rows], np.int32),
        class_names=HAM10000_CLASSES,
        groups=np.array([row["lesion_id"] for row in rows]),
    )
    print(header("split", "overall", *HAM10000_CLASSES))
    for name, make in SPLITS.items():
        audits = [leakage_audit(make(source, seed=seed), source) for seed in range(SEEDS)]
        found = [np.mean([audit["overall"] for audit in audits])]
        found += [np.mean([audit["by_class"][of] for audit in audits]) for of in HAM10000_CLASSES]
        print(f"| {name} | {' | '.join(f'{share:.1%}' for share in found)} |")


def build_network() -> tf.keras.Model:
    """The shipped network that the audit takes."""
    pretrained = read_pretrained(NETWORK)
    network = build_backbone(pretrained.backbone, norm="group", stem=pretrained.stem)
    fill(network, pretrained)
    return network


def encode(network: tf.keras.Model, source: ImageSource) -> dict[str, np.ndarray]:
    """Stage -> features of every image."""
    batches = image_batches(source, np.arange(len(source)), image_size=SIZE, batch_size=64)
    return stage_features(network, batches)


def encode_copies(network: tf.keras.Model, source: ImageSource) -> dict[str, dict[str, np.ndarray]]:
    """Kind of copy -> stage -> features of every 20th image."""
    images = [tf.io.decode_jpeg(source.read(index)) for index in range(0, len(source), 20)]
    return {
        kind: stage_features(network, [to_model_range(resize(copy(image), SIZE))[tf.newaxis] for image in images])
        for kind, copy in COPIES.items()
    }


def cosines_of(transform, source, photos, copies) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Cosine of each image's nearest stranger [N], of each pair of sisters [P], of each kind's copies [C]."""
    rows = transform(photos)
    cosines = rows @ rows.T
    lesions = np.unique(source.groups, return_inverse=True)[1]
    sisters = lesions[:, np.newaxis] == lesions
    pairs = cosines[np.triu(sisters, 1)]
    cosines[sisters] = -2
    of_copies = {kind: (transform(features) * rows[::20]).sum(axis=1) for kind, features in copies.items()}
    return cosines.max(axis=1), pairs, of_copies


def transforms(sample: np.ndarray) -> dict:
    """Ways to compare features, by what a data set says about itself."""
    mean = sample.mean(axis=0)
    return {"as they are": unit_rows, "centred": lambda x: unit_rows(x - mean), "whitened": fit_whitening(sample)}


def compare_stages(source: ImageSource, photos: dict, copies: dict) -> None:
    """How much each stage finds where 0.1 % of the images have a stranger above the threshold."""
    print(header("stage", "compared", "threshold", "sister pairs", *COPIES))
    for stage in STAGES:
        of_stage = {kind: features[stage] for kind, features in copies.items()}
        for name, transform in transforms(photos[stage]).items():
            strangers, pairs, found = cosines_of(transform, source, photos[stage], of_stage)
            threshold = np.quantile(strangers, 0.999)
            told = [np.mean(pairs >= threshold), *(np.mean(cosines >= threshold) for cosines in found.values())]
            print(f"| {stage} | {name} | {threshold:.3f} | {' | '.join(f'{share:.0%}' for share in told)} |")


def compare_small_sets(source: ImageSource, photos: dict, copies: dict) -> None:
    """Few photographs and a copy of one in 20 of them, all of which are whitened by: mean of 20 draws."""
    rng, every_20th = np.random.default_rng(0), np.arange(0, len(source), 20)
    lesions = np.unique(source.groups, return_inverse=True)[1]
    print(header("photographs", "strangers", *COPIES))
    for number in (30, 60, 120, 250, 500, 1000):
        told = []
        for _ in range(20):
            copied = rng.choice(len(every_20th), max(3, number // 20), replace=False)
            others = np.setdiff1d(np.arange(len(source)), every_20th)
            chosen = np.concatenate([every_20th[copied], rng.choice(others, number - len(copied), replace=False)])
            rows, found = photos["block3"][chosen], []
            for features in copies.values():
                whitened = fit_whitening(np.concatenate([rows, features["block3"][copied]]))
                of_copies = whitened(features["block3"][copied]) * whitened(rows[: len(copied)])
                found.append(np.mean(of_copies.sum(axis=1) >= NEAR))
            whitened = fit_whitening(rows)(rows)
            cosines = whitened @ whitened.T
            cosines[lesions[chosen][:, np.newaxis] == lesions[chosen]] = -2
            told.append([np.mean(cosines.max(axis=1) >= NEAR), *found])
        strangers, *found = np.mean(told, axis=0)
        print(f"| {number} | {strangers:.2%} | {' | '.join(f'{share:.0%}' for share in found)} |")


def compare_thresholds(source, photos, copies, cifar, cifar_features) -> None:
    """What thresholds mean for the stage that was chosen, whitened."""
    whitening = fit_whitening(photos["block3"])
    of_stage = {kind: features["block3"] for kind, features in copies.items()}
    strangers, pairs, found = cosines_of(whitening, source, photos["block3"], of_stage)
    # As in the audit: the whitening is that of the test part.
    whitening = fit_whitening(cifar_features[cifar.official_test])
    trained = whitening(cifar_features[~cifar.official_test])
    tested = np.split(whitening(cifar_features[cifar.official_test]), 10)
    nearest = np.concatenate([(rows @ trained.T).max(axis=1) for rows in tested])
    print(header("threshold", "strangers", "sister pairs", "CIFAR-10", *COPIES))
    for threshold in (0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9):
        told = [f"{np.mean(values >= threshold):.2%}" for values in (strangers, pairs, nearest)]
        told += [f"{np.mean(cosines >= threshold):.0%}" for cosines in found.values()]
        print(f"| {threshold} | {' | '.join(told)} |")


if __name__ == "__main__":
    main()
