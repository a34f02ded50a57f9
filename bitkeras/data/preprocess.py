"""Decoding, resizing and value range: the one definition, shared by training, evaluation and export."""

from __future__ import annotations

import tensorflow as tf

from bitkeras.data.decoding import Fallback, decode_image

# Raise it with every change of the pixels that `preprocess` gives: features kept on disk are of one version.
PIXELS_VERSION = 1


def resize(image: tf.Tensor, image_size: int) -> tf.Tensor:
    """[H, W, 3] in [0, 255] -> float32 [image_size, image_size, 3] in [0, 255].

    The whole picture is squeezed to a square, as BiT's fine-tuning does (arXiv 1912.11370, section 3.3):
    a centre crop would cut lesions that reach the border of a 4:3 photograph. Antialiased, since
    600x450 -> 64 px without it aliases hairs into dots.
    """
    # What tf.image.resize calls, with the same result; but that makes float32 of the whole picture first, four times
    # the memory.
    return tf.raw_ops.ScaleAndTranslate(
        images=tf.expand_dims(image, 0),
        size=[image_size, image_size],
        scale=tf.cast(image_size / tf.shape(image)[:2], tf.float32),
        translation=[0.0, 0.0],
        kernel_type="triangle",
        antialias=True,
    )[0]


def to_model_range(image: tf.Tensor) -> tf.Tensor:
    """Pixels in [0, 255] -> float32 in [-1, 1], the range BiT's released `.npz` weights expect."""
    return tf.cast(image, tf.float32) / 127.5 - 1.0


def preprocess(encoded: tf.Tensor, image_size: int, *, fallback: Fallback | None = None) -> tf.Tensor:
    """Encoded image (scalar string) -> float32 [image_size, image_size, 3] in [-1, 1].

    Args:
      fallback: reads other files than JPEG and PNG, as in `decoding.decode_images`.
    """
    return to_model_range(resize(decode_image(encoded, fallback=fallback), image_size))
