"""A look at the features of one arm: maps of the test images at two epochs, and neighbours of a few of them."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.data import ImageSource
from bitkeras.data.batches import image_batches
from bitkeras.data.split_files import load_split, with_lesions_of
from bitkeras.data.splits import Split
from bitkeras.evaluation.features import encode
from bitkeras.evaluation.projection import tsne
from bitkeras.files import written_atomically
from bitkeras.runs import RunFolder
from pipelines.images import usable_images
from pipelines.runtime import read_existing, say

MAPS, NEIGHBOURS = "maps.json", "neighbours.json"
LOOKED = (MAPS, NEIGHBOURS)
# Of HAM10000 and ISIC. Actinic keratoses and Bowen's disease (akiec, ak) count with what must be treated.
BENIGN, MALIGNANT = ("nv", "bkl", "df", "vasc"), ("mel", "bcc", "akiec", "ak", "scc")
BATCH_SIZE = 64
THUMBNAIL_SIZE = 96
NUM_FOUND, NUM_QUERIES = 5, 7


def look(run_dir: Path, folder: Path, *, data_dir: str, seed: int, epochs: list[int]) -> None:
    """Writes maps.json and neighbours.json into `folder`.

    Args:
      run_dir: a finished run.
      data_dir: where its images are now.
      seed: of the maps, and of the images that are looked up.
      epochs: snapshots of the run to map beside its end.
    """
    run = RunFolder(run_dir)
    config = run.config()
    source, _ = usable_images(run, read_existing(config, data_dir), on_bad_image="error")
    source = with_lesions_of(run.split_path, source)
    split = load_split(run.split_path, source)
    test, size = split.indices("test"), config["image_size"]
    maps = []
    for epoch, path in [*((epoch, run.snapshot_path(epoch)) for epoch in epochs), (config["epochs"], run.encoder_path)]:
        say(f"epoch {epoch}: t-SNE of {len(test)} test images")
        encoder = tf.keras.models.load_model(path)
        features = encode(encoder, image_batches(source, test, image_size=size, batch_size=BATCH_SIZE))
        points = tsne(features, seed=seed)
        maps.append({"title": f"epoch {epoch}", "epoch": epoch, "points": np.round(points, 4).tolist()})
    known = {"labels": source.labels[test].tolist(), "class_names": list(source.class_names)}
    known["groups_of_classes"] = groups_of_classes(source.class_names)
    run.write_json(folder / MAPS, [{**one, **known} for one in maps])
    neighbours = find_neighbours(source, split, encoder, features, image_size=size, seed=seed)
    with written_atomically(folder / NEIGHBOURS) as beside:
        beside.write_text(json.dumps(neighbours) + "\n")


def groups_of_classes(class_names: tuple[str, ...]) -> dict[str, dict[str, list[str]]]:
    """What a map is coloured by beside the classes: benign against malignant, where all classes are skin lesions."""
    kinds = {"benign": BENIGN, "malignant": MALIGNANT}
    binary = {kind: [name for name in class_names if name.lower() in names] for kind, names in kinds.items()}
    is_known = sum(map(len, binary.values())) == len(class_names) and all(binary.values())
    return {"Binary": binary} if is_known else {}


def find_neighbours(
    source: ImageSource, split: Split, encoder: tf.keras.Model, test_features: np.ndarray, *, image_size: int, seed: int
) -> list[dict]:
    """Rows of `query` and `found`, the labelled training images that are nearest to some test images by cosine.

    Args:
      test_features: float [N, D], of the test part.
      image_size: of the encoder, px.
      seed: which test image of each class is looked up.

    Returns:
      Of each image image_id, class and png (base64, THUMBNAIL_SIZE px), and of those found the cosine.
    """
    test, bank = split.indices("test"), np.concatenate([split.indices(part) for part in ("probe_train", "probe_val")])
    bank_features = encode(encoder, image_batches(source, bank, image_size=image_size, batch_size=BATCH_SIZE))
    bank_features, rng, rows = _unit(bank_features), np.random.default_rng(seed), []
    for label in np.unique(source.labels[test])[:NUM_QUERIES]:
        query = rng.choice(np.flatnonzero(source.labels[test] == label))
        cosines = bank_features @ _unit(test_features[query])
        nearest = np.argsort(-cosines, kind="stable")[:NUM_FOUND]
        rows.append((test[query], [(bank[place], float(cosines[place])) for place in nearest]))
    shown = [index for query, found in rows for index in (query, *(image for image, _ in found))]
    pictures = _pictures(source, np.unique(shown))
    return [
        {"query": pictures[query], "found": [{**pictures[image], "cosine": round(at, 6)} for image, at in found]}
        for query, found in rows
    ]


def _unit(features: np.ndarray) -> np.ndarray:
    return features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), np.finfo(np.float32).tiny)


def _pictures(source: ImageSource, indices: np.ndarray) -> dict[int, dict]:
    """Index -> image_id, class and png."""
    batches = image_batches(source, indices, image_size=THUMBNAIL_SIZE, batch_size=BATCH_SIZE)
    pixels = np.clip(np.round((np.concatenate(list(batches)) + 1) * 127.5), 0, 255).astype(np.uint8)
    return {
        index: {
            "image_id": str(source.image_ids[index]),
            "class": source.class_names[source.labels[index]],
            "png": base64.b64encode(tf.io.encode_png(image).numpy()).decode(),
        }
        for index, image in zip(indices, pixels)
    }
