"""Held-out images as points in the space of their features, in TensorBoard's embedding projector."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.callbacks.monitors import evenly
from bitkeras.files import written_atomically

# px; a whole validation part of HAM10000 (2,003 images) makes a picture of 2,160 px and 7 MB.
SPRITE_SIZE = 48
# 50 x 50 sprites. The browser also computes t-SNE and UMAP of them.
MAX_IMAGES = 2500
# From here on TensorBoard projects at random before its own principal components (PCA_SAMPLE_DIM in its source).
_MAX_DIMENSIONS = 200
# px; TensorBoard refuses a larger picture.
_MAX_SIDE = 8192


def projector_indices(indices: np.ndarray) -> np.ndarray:
    """At most `MAX_IMAGES` of `indices`, evenly spaced."""
    return evenly(indices, MAX_IMAGES)


def write_projector(
    folder: str | Path,
    features: np.ndarray,
    images: Iterable,
    *,
    image_ids: Sequence[str],
    labels: np.ndarray | None = None,
    class_names: Sequence[str] = (),
) -> None:
    """Writes points, their table and their pictures; what stood there before is replaced.

    Args:
      folder: of a TensorBoard run, that is, with event files in it: TensorBoard looks for projectors nowhere else.
      features: float [N, D]. More than 200 dimensions are reduced to the 200 that hold most, without centring, so that
        cosines and distances stay as far as 200 dimensions can keep them.
      images: N images in batches, float32 [B, S, S, 3] in [-1, 1]; S is `SPRITE_SIZE`, or less for more images.
      image_ids: [N] str.
      labels: int [N] in [0, K), or None where nothing is labelled.
      class_names: K names.

    Raises:
      ValueError: the numbers of features, images, ids and labels differ, or there are too many images of this size.
    """
    folder = Path(folder)
    sprites = np.concatenate([_pixels(batch) for batch in images])
    counts = {len(features), len(sprites), len(image_ids), len(image_ids if labels is None else labels)}
    if len(counts) > 1:
        raise ValueError(
            f"Features, images, ids and labels must be of the same images, but their numbers are {counts}."
        )
    table, points, picture = _table(image_ids, labels, class_names), _reduced(features), _grid(sprites)
    with written_atomically(folder / "projector" / "features.tsv") as beside:
        # Text, since TensorBoard tells it from binary numbers by failing to decode: zeros are decodable.
        np.savetxt(beside, points, fmt="%.6g", delimiter="\t")
    with written_atomically(folder / "projector" / "images.tsv") as beside:
        beside.write_text(table, encoding="utf-8", errors="replace")
    with written_atomically(folder / "projector" / "sprites.png") as beside:
        beside.write_bytes(tf.io.encode_png(picture).numpy())
    # Last, since it is what TensorBoard looks for.
    with written_atomically(folder / "projector_config.pbtxt") as beside:
        beside.write_text(_config(sprites.shape[1]))


def _pixels(batch) -> np.ndarray:
    return np.asarray(tf.image.convert_image_dtype(tf.convert_to_tensor(batch) / 2 + 0.5, tf.uint8, saturate=True))


def _reduced(features: np.ndarray) -> np.ndarray:
    """Float [N, D] -> float64 [N, at most 200], the coordinates along the first right singular vectors."""
    features = np.asarray(features, np.float64)
    if features.shape[1] <= _MAX_DIMENSIONS:
        return features
    # The smaller Gram matrix instead of an SVD of [N, D], as for RankMe.
    if len(features) < features.shape[1]:
        squares, left = np.linalg.eigh(features @ features.T)
        return (left * np.sqrt(np.maximum(squares, 0)))[:, : -_MAX_DIMENSIONS - 1 : -1]
    return features @ np.linalg.eigh(features.T @ features)[1][:, : -_MAX_DIMENSIONS - 1 : -1]


def _table(image_ids: Sequence[str], labels: np.ndarray | None, class_names: Sequence[str]) -> str:
    """One line an image; a line of headings only above several columns, as TensorBoard wants it."""
    # A tab or a line break in the name of a file would shift the rows.
    ids = [" ".join(str(image_id).split()) for image_id in image_ids]
    if labels is None:
        return "".join(f"{image_id}\n" for image_id in ids)
    rows = [f"{class_names[label]}\t{image_id}\n" for label, image_id in zip(labels, ids)]
    return "".join(["class\timage_id\n", *rows])


def _grid(sprites: np.ndarray) -> np.ndarray:
    """Uint8 [N, S, S, 3] -> one square picture, row by row, white where there is none."""
    num_images, size = sprites.shape[:2]
    # Square, also where the last row stays empty: the projector mixes up rows and columns where it looks for the
    # point below the mouse.
    across = math.isqrt(max(num_images - 1, 0)) + 1
    if across * size > _MAX_SIDE:
        raise ValueError(
            f"{num_images} images of {size} px make a picture of {across * size} px, and TensorBoard takes "
            f"{_MAX_SIDE}; give fewer (`projector_indices`) or smaller ones."
        )
    grid = np.full([across * across, size, size, 3], 255, np.uint8)
    grid[:num_images] = sprites
    return grid.reshape(across, across, size, size, 3).swapaxes(1, 2).reshape(across * size, across * size, 3)


def _config(sprite_size: int) -> str:
    from google.protobuf import text_format
    from tensorboard.plugins import projector

    # Relative to the folder, so that a run can be moved.
    embedding = projector.EmbeddingInfo(tensor_name="features", tensor_path="projector/features.tsv")
    embedding.metadata_path = "projector/images.tsv"
    embedding.sprite.image_path = "projector/sprites.png"
    embedding.sprite.single_image_dim.extend([sprite_size, sprite_size])
    return text_format.MessageToString(projector.ProjectorConfig(embeddings=[embedding]))
