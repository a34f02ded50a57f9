"""An encoder from its flags: the graph, its starting weights, the swap of its norm, and the finished file."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.backbones import build_backbone
from bitkeras.backbones.agreement import agreement_line
from bitkeras.backbones.checkpoints import graph_variables
from bitkeras.backbones.norm_swap import NormSwap, batch_norms, calibrate_batch_norm, match_group_norm, swap_group_norm
from bitkeras.backbones.pretrained import Pretrained, check_against_module, fill
from bitkeras.data import ImageSource
from bitkeras.data.batches import image_batches
from bitkeras.data.splits import Split
from bitkeras.errors import UserError
from bitkeras.files import written_atomically
from bitkeras.precision import precision_policy
from bitkeras.runs import RunFolder
from pipelines.starting_point import swap_of

AGREEMENT_IMAGES = 8
BATCH_SIZE = 64


@dataclasses.dataclass(frozen=True)
class Start:
    """An encoder before training, in float32.

    Attributes:
      encoder: with the weights it starts from.
      original: the GN network that it was swapped from, or None.
      messages: what was not taken over from the weights.
    """

    encoder: tf.keras.Model
    original: tf.keras.Model | None
    messages: list[str]


def build_encoder(config: dict, *, from_scratch: bool = False) -> tf.keras.Model:
    """The graph of a run with random weights, under the current precision policy.

    Args:
      config: of the run, settled.
      from_scratch: start every unit of a BN network as the identity.
    """
    # Group norm comes with standardised kernels, for which zeros are a singular point.
    zeros = from_scratch and config["norm"] == "batch"
    standardized = True if config.get("ws") == "keep" else None
    graph = {"norm": config["norm"], "stem": config["stem"], "weight_standardization": standardized}
    return build_backbone(config["backbone"], **graph, zero_init_residual=zeros)


def load_start(config: dict, pretrained: Pretrained, source: ImageSource, indices: np.ndarray) -> Start:
    """The encoder with given weights, swapped and calibrated as the flags say; float32 whatever the policy is.

    Args:
      config: of the run, settled.
      pretrained: the weights.
      source, indices: the unlabelled images to calibrate on; where there are fewer than asked for, all are taken.
    """
    swap = swap_of(config)
    # A stem that is left at random is the same one when the probe builds this network again.
    tf.keras.utils.set_random_seed(config["seed"])
    with precision_policy("float32"):
        encoder = build_encoder(config)
        if swap is None:
            return Start(encoder, None, fill(encoder, pretrained, stem_init=config.get("stem_init")))
        original = build_backbone(config["backbone"], norm="group", stem=config["stem"])
        messages = fill(original, pretrained, stem_init=config.get("stem_init"))
        swap_from(original, encoder, swap)
        if swap.bn_calibrate:
            num_images = min(swap.bn_calibrate, len(indices))
            images = whole_images(source, shuffled(indices, config)[:num_images], config)
            if swap.bn_init == "match":
                match_group_norm(encoder, original, images)
            calibrate_batch_norm(encoder, images)
            messages.append(f"batch norm has its statistics from {num_images} images")
        else:
            messages.append("batch norm starts at mean 0 and variance 1; --bn_calibrate takes them from images")
    return Start(encoder, original, messages)


def swap_from(original: tf.keras.Model, encoder: tf.keras.Model, swap: NormSwap) -> None:
    """Fills the BN graph `encoder` from the GN network `original`."""
    weights = {name: variable.numpy() for name, variable in graph_variables(original).items()}
    swap_group_norm(encoder, weights, ws=swap.ws, bn_init=swap.bn_init)


def calibrate(
    encoder: tf.keras.Model, config: dict, source: ImageSource, indices: np.ndarray, *, num_images: int
) -> None:
    """Takes the BN statistics of a float32 encoder from `num_images` images.

    Raises:
      UserError: the encoder has no batch norm, or there are fewer images.
    """
    if not batch_norms(encoder):
        raise UserError("--bn_calibrate sets statistics of batch norm, and this encoder has none; leave it out.")
    if num_images > len(indices):
        raise UserError(
            f"--bn_calibrate={num_images}, and the pre-training part holds {len(indices)} images; pass at most that."
        )
    chosen = shuffled(indices, config)[:num_images]
    calibrate_batch_norm(encoder, whole_images(source, chosen, config))


def whole_images(source: ImageSource, indices: np.ndarray, config: dict) -> tf.data.Dataset:
    """Batches of images as they are, at the size the run trains on."""
    return image_batches(source, indices, image_size=config["image_size"], batch_size=BATCH_SIZE)


def shuffled(indices: np.ndarray, config: dict) -> np.ndarray:
    """`indices` in an order of the run's seed: in their own the images of one class may come first."""
    return np.random.default_rng([config["seed"], 1]).permutation(indices)


def weights_record(config: dict, pretrained: Pretrained, source: ImageSource, split: Split) -> dict:
    """What is known about the weights, for `weights.json`: among it how they agree with the module they are from.

    Raises:
      UserError: the module computes something else than the network built here.
    """
    chosen = shuffled(split.indices("pretrain"), config)[:AGREEMENT_IMAGES]
    images = np.concatenate(list(whole_images(source, chosen, config)))
    agreement = check_against_module(pretrained, config["backbone"], np.clip((images + 1) / 2, 0, 1))
    facts = ("origin", "norm", "weight_standardization", "backbone", "stem")
    return {
        **{fact: getattr(pretrained, fact) for fact in facts},
        "sha256": weights_checksum(pretrained.weights),
        "is_module": pretrained.module is not None,
        "agreement": agreement,
        "num_test_images": len(split.indices("test")),
        "num_seen_test_images": _num_seen(config, source.image_ids[split.indices("test")]),
    }


def weights_checksum(weights: dict[str, np.ndarray]) -> str:
    """SHA-256 of canonical names and float32 values, whatever file they came from."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(weights[name], np.float32))
    return digest.hexdigest()


def _num_seen(config: dict, image_ids: np.ndarray) -> int:
    """How many of the images the run trained on that the weights are of, where they are of one on the same data."""
    path = Path(config["weights"])
    run = RunFolder(path if path.is_dir() else path.parent)
    if not (run.split_path.is_file() and run.config_path.is_file() and run.config()["dataset"] == config["dataset"]):
        return 0
    with open(run.split_path, encoding="utf-8", newline="") as file:
        seen = {row["image_id"] for row in csv.DictReader(file) if row["part"] == "pretrain"}
    return len(seen.intersection(image_ids))


def record_lines(record: dict) -> list[str]:
    """What the log says of the weights; nothing where there is nothing to say."""
    lines = []
    if record["agreement"]:
        lines.append(agreement_line(record["agreement"]))
    elif record["is_module"]:
        lines.append("the module cannot be called, so nothing was compared")
    if record["num_seen_test_images"]:
        lines.append(
            f"warning: these weights were trained on {record['num_seen_test_images']} of the "
            f"{record['num_test_images']} test images, so scores on them will flatter; make the run with the --split "
            "and --seed of the weights' own"
        )
    return lines


def save_encoder(path: Path, config: dict, encoder: tf.keras.Model) -> None:
    """Writes the encoder as a float32 graph, so that probe and export do not depend on the training precision."""
    with precision_policy("float32"):
        plain = build_encoder(config)
    plain.set_weights(encoder.get_weights())
    with written_atomically(path) as beside:
        plain.save(beside)
