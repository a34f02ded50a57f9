"""Puts a network that `bitkeras upstream` has trained into the package, with its card.

    bitkeras upstream --flagfile=bit-m-mini --data_dir=CIFAR10 --run_dir=runs/bit-m-mini
    python docs/results/ship_model.py runs/bit-m-mini

The accuracy on the card is that of the rounded weights in the file, measured here.
"""
# ruff: noqa: E501  the rows of a Markdown table cannot be broken

from __future__ import annotations

import hashlib
import json
import sys

import numpy as np

from bitkeras.backbones import build_backbone
from bitkeras.backbones.checkpoints import assign_weights, read_weights
from bitkeras.backbones.released import write_npz
from bitkeras.backbones.shipped import MODELS
from bitkeras.data import read_source
from bitkeras.data.batches import image_batches
from bitkeras.data.split_files import load_split
from bitkeras.evaluation.features import encode
from bitkeras.evaluation.metrics import accuracy
from bitkeras.runs import RunFolder

CARD = """---
license: other
datasets: [cifar10]
tags: [image-feature-extraction, big-transfer, keras]
---

# {name}

A small Big Transfer network (Kolesnikov et al. 2020, arXiv 1912.11370) that comes with bitkeras, so that the road from a
pre-trained network to medical images can be walked without a download. It mirrors {mirrors}.

| | |
|---|---|
| architecture | BiT ResNet-V2 {backbone}: Group Norm, weight standardisation, {parameters:,} parameters without the head |
| trained on | {num_images:,} labelled training images of CIFAR-10, enlarged to {image_size} px |
| recipe | {recipe} |
| command | `bitkeras upstream --flagfile={name} --data_dir=CIFAR10 --run_dir=runs/{name}` |
| accuracy | {test_accuracy:.4f} on CIFAR-10's 10,000 test images at {image_size} px, with the weights as shipped (float16) |
| input | float32 [B, H, W, 3] in [-1, 1]; made for {image_size} px |
| output | {num_features} features, or logits of CIFAR-10's ten classes |
| file | `{name}.npz`, released BiT names, sha256 `{sha256}` |

Take it with `--weights={name}`.

**Use.** A start for experiments and for the quickstart. It knows ten kinds of small natural photographs and nothing of
medicine: a released BiT network knows far more and is the one to take for real work. Not a medical device.

**Limits.** Trained once, with one seed; the test accuracy was watched during training and chose nothing. The crops are drawn
in another way since, so the command gives another network of about the same accuracy. CIFAR-10 is a part
of the 80 Million Tiny Images, which were withdrawn over offensive labels; its ten classes are not concerned.

**Licence.** The weights were made with this project's own code and are shared on the terms of its repository. CIFAR-10
(Krizhevsky 2009) is published for research without a licence text; ask your lawyers before you sell what was trained on it.
"""
MIRRORS = {
    "bit-s-mini": "BiT-S, the smaller of the paper's two scales: a fifth of the images of bit-m-mini",
    "bit-m-mini": "BiT-M, the larger of the paper's two scales: five times the images of bit-s-mini",
}


def ship(run: RunFolder) -> None:
    """Writes NAME.npz, NAME.json and NAME.md, with the name of the run's folder."""
    config, name = run.config(), run.path.name
    mirrors = MIRRORS[name]
    source = read_source(config["dataset"], config["data_dir"])
    split = load_split(run.split_path, source)
    path = MODELS / f"{name}.npz"
    MODELS.mkdir(exist_ok=True)
    write_npz(read_weights(run.path / "weights.npz"), path, dtype=np.float16)
    network = build_backbone(config["backbone"], stem=config["stem"], num_classes=len(source.class_names))
    assign_weights(network, read_weights(path))
    features = network.get_layer("features").output
    test = split.indices("test")
    logits = encode(network, image_batches(source, test, image_size=config["image_size"], batch_size=250))
    kept = ("backbone", "stem", "image_size", "epochs", "warmup_epochs", "batch_size", "base_lr", "schedule")
    kept += ("weight_decay", "min_crop_area", "seed")
    card = {
        **{key: config[key] for key in kept},
        "num_images": len(split.indices("pretrain")),
        "test_accuracy": accuracy(source.labels[test], logits.argmax(axis=1)),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    (MODELS / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n")
    recipe = (
        "SGD with momentum 0.9, rate {base_lr} per 256 images, batch {batch_size}, {epochs} epochs, {warmup_epochs} of them "
        "warm-up, {schedule}, weight decay {weight_decay}, crops of at least {min_crop_area} of the image, flips; seed {seed}"
    ).format(**card)
    head = sum(variable.shape.num_elements() for variable in network.get_layer("head").weights)
    facts = {"parameters": network.count_params() - head, "num_features": features.shape[-1]}
    (MODELS / f"{name}.md").write_text(CARD.format(name=name, mirrors=mirrors, recipe=recipe, **facts, **card))
    print(f"{path}: {path.stat().st_size:,} bytes, test accuracy {card['test_accuracy']:.4f}")


if __name__ == "__main__":
    ship(RunFolder(sys.argv[1]))
