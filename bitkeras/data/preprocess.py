"""Decoding, resizing and value range: the one definition, shared by training, evaluation and export."""

from __future__ import annotations

import tensorflow as tf


def decode_image(encoded: tf.Tensor) -> tf.Tensor:
    """JPEG, PNG, GIF or BMP bytes (scalar string) -> uint8 [H, W, 3].

    Grey images get three equal channels; an alpha channel is dropped. Raises
    `tf.errors.InvalidArgumentError` for bytes that are no image or are cut short.
    """
    # expand_animations=False: a GIF is then its first frame and the rank is 3 for every format.
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image.set_shape([None, None, 3])
    return image


def resize(image: tf.Tensor, image_size: int) -> tf.Tensor:
    """[H, W, 3] in [0, 255] -> float32 [image_size, image_size, 3] in [0, 255].

    The whole picture is squeezed to a square, as BiT's fine-tuning does (arXiv 1912.11370, section 3.3):
    a centre crop would cut lesions that reach the border of a 4:3 photograph. Antialiased, since
    600x450 -> 64 px without it aliases hairs into dots.
    """
    # The cast first: tf.image.resize hands back uint8 where the static shape already fits, float32 otherwise.
    return tf.image.resize(tf.cast(image, tf.float32), [image_size, image_size], antialias=True)


def to_model_range(image: tf.Tensor) -> tf.Tensor:
    """Pixels in [0, 255] -> float32 in [-1, 1], the range BiT's released `.npz` weights expect."""
    return tf.cast(image, tf.float32) / 127.5 - 1.0


def preprocess(encoded: tf.Tensor, image_size: int) -> tf.Tensor:
    """Encoded image (scalar string) -> float32 [image_size, image_size, 3] in [-1, 1]."""
    return to_model_range(resize(decode_image(encoded), image_size))
