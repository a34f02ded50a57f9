"""Which two photographs make a positive pair: one image twice, or two photographs of one lesion."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from bitkeras.data.augment_draws import draw_uniforms
from bitkeras.data.source import ImageSource
from bitkeras.errors import UserError

POSITIVES = ("image", "lesion")

# No image has such a number, so what is drawn for the second view of an image is drawn for nothing else.
_SECOND_VIEW = 2**62


def lesion_pairs(source: ImageSource, indices: np.ndarray) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """What `view_batches` makes its pairs of under --positives=lesion.

    Args:
      source: with lesions; no label is looked at.
      indices: the images that are trained on; sisters are looked for among them only.

    Returns:
      A function for tf.data, of the int64 [N, 3] (seed, epoch, image) of N images. It gives the images to show,
      int64 [2 N], first the N themselves and then for each another photograph of its lesion, drawn anew in every
      epoch, or itself where there is none; and the seeds of one view of each, int64 [2 N, 3].

    Raises:
      UserError: the source knows no lesions.
    """
    draw_sisters = _sister_draw(source, indices)

    def pairs(seeds):
        first, second = seeds[:, 2], draw_sisters(seeds)
        return tf.concat([first, second], 0), tf.concat([seeds, _stream(seeds, first + _SECOND_VIEW)], 0)

    return pairs


def sisters_of(
    source: ImageSource, indices: np.ndarray, images: np.ndarray, *, seed: int, epochs: np.ndarray
) -> np.ndarray:
    """int64 [N]: the photograph that each of `images` is paired with in its epoch."""
    seeds = np.stack(np.broadcast_arrays(seed, epochs, images), axis=-1).astype(np.int64)
    return _sister_draw(source, indices)(tf.constant(seeds)).numpy()


def require_lesions(source: ImageSource) -> None:
    """UserError where nothing says which photographs are of one lesion."""
    if source.groups is None:
        raise UserError(
            f"--positives=lesion pairs photographs of one lesion, and {source.name} names no lesions; pass "
            "--positives=image, or a --split=FILE with the column lesion_id."
        )


def num_with_sister(source: ImageSource, indices: np.ndarray) -> int:
    """How many of the images at `indices` have another photograph of their lesion among them."""
    _, of_image, counts = np.unique(source.groups[indices], return_inverse=True, return_counts=True)
    return int((counts[of_image] > 1).sum())


def _sister_draw(source: ImageSource, indices: np.ndarray):
    require_lesions(source)
    members, starts, sizes, places = (tf.constant(table, tf.int64) for table in _tables(source.groups, indices))

    def draw(seeds):
        images = seeds[:, 2]
        # ~image is no image either: a stream that no view draws from.
        uniforms = draw_uniforms(_stream(seeds, tf.bitwise.invert(images)), num_views=1)[0, :, 0]
        sizes_of, places_of = tf.gather(sizes, images), tf.gather(places, images)
        # From 1 to the number of sisters; 0, which is the image itself, where there is none.
        steps = tf.minimum(1 + tf.cast(uniforms * tf.cast(sizes_of - 1, tf.float32), tf.int64), sizes_of - 1)
        return tf.gather(members, tf.gather(starts, images) + (places_of + steps) % sizes_of)

    return draw


def _tables(groups: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The images lesion by lesion ([n]); and of each image its lesion's start there, its size, and its place ([N])."""
    members = np.asarray(indices)[np.argsort(groups[indices], kind="stable")]
    _, first, lesion, counts = np.unique(groups[members], return_index=True, return_inverse=True, return_counts=True)
    starts, sizes, places = (np.zeros(len(groups), np.int64) for _ in range(3))
    starts[members], sizes[members] = first[lesion], counts[lesion]
    places[members] = np.arange(len(members)) - first[lesion]
    return members, starts, sizes, places


def _stream(seeds, images):
    return tf.concat([seeds[:, :2], images[:, tf.newaxis]], axis=1)
