"""Encoded images to pixels inside a SavedModel, where one that is damaged costs its row and not the request."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from bitkeras.data.preprocess import preprocess

# The feature of a tf.Example that holds the image, as `bitkeras ingest` and TensorFlow's own converters write it.
EXAMPLE_FEATURE = "image/encoded"
READABLE, UNREADABLE = "ok", "unreadable"
# Below ten, a batch of 16 photographs of 500x375 is decoded at half the speed.
_PARALLEL_DECODES = 16


def decode_rows(
    rows: tf.Tensor, image_size: int, *, encoded_of: Callable[[tf.Tensor], tf.Tensor] = tf.identity
) -> tuple[tf.Tensor, tf.Tensor]:
    """Strings [B], B >= 0 -> (float32 [B, S, S, 3] in [-1, 1], zeros where unreadable; bool [B], readable).

    Args:
      rows: one image each.
      image_size: S, px.
      encoded_of: takes the bytes of the image out of a row.
    """
    num_rows = tf.size(rows, out_type=tf.int64)
    # tf.data is what TensorFlow has of catching an error; a loop with a data set for each image deadlocks on two cores.
    readable = (
        tf.data.Dataset.from_tensor_slices(rows)
        .enumerate()
        .map(
            lambda index, row: (index, preprocess(encoded_of(row), image_size)),
            num_parallel_calls=_PARALLEL_DECODES,
            deterministic=False,
        )
        .ignore_errors()
    )
    # One row more, so that there always is one.
    end = tf.data.Dataset.from_tensors((num_rows, tf.zeros([image_size, image_size, 3])))
    batch = readable.concatenate(end).batch(num_rows + 1).with_options(_plain_options())
    indices, images = batch.get_single_element()
    places = indices[:, tf.newaxis]
    images = tf.scatter_nd(places, images, [num_rows + 1, image_size, image_size, 3])[:-1]
    found = tf.scatter_nd(places, tf.ones_like(indices, tf.int32), [num_rows + 1])[:-1]
    return images, found > 0


def encoded_in_example(serialized: tf.Tensor) -> tf.Tensor:
    """A serialised tf.Example (scalar string) -> the encoded image in it; an error where it holds none."""
    feature = tf.io.FixedLenFeature([], tf.string)
    return tf.io.parse_single_example(serialized, {EXAMPLE_FEATURE: feature})[EXAMPLE_FEATURE]


def blanked(answer: dict[str, tf.Tensor], is_readable: tf.Tensor) -> dict[str, tf.Tensor]:
    """`answer` with empty rows (zeros, "") and a status where there was nothing to read."""

    def blank(values: tf.Tensor) -> tf.Tensor:
        rows = tf.reshape(is_readable, [-1, *[1] * (values.shape.rank - 1)])
        return tf.where(rows, values, tf.zeros_like(values))

    status = tf.where(is_readable, READABLE, UNREADABLE)
    return {**{name: blank(values) for name, values in answer.items()}, "status": status}


def _plain_options() -> tf.data.Options:
    # There is nothing to tune in one batch, and looking for it takes milliseconds a request.
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return options
