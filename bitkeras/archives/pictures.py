"""One image of an archive: read, found usable, and made smaller where that is asked."""

from __future__ import annotations

import tensorflow as tf

from bitkeras.archives.examples import format_of
from bitkeras.data import ImageSource
from bitkeras.data.bad_images import reason_of
from bitkeras.data.decoding import decode_image

# Of what is made smaller. The colours keep their full resolution, since lesions are told apart by them.
JPEG_QUALITY = 95


class Unusable(Exception):
    """An image that cannot be used; the text is the reason: "it is empty (0 bytes)"."""


def read_picture(source: ImageSource, index: int, *, image_size: int | None = None) -> bytes:
    """The encoded image, decoded once to see that it can be used.

    Args:
      source, index: which.
      image_size: px that the shorter side gets where it is longer; the picture keeps its shape, and is encoded again,
        as JPEG with `JPEG_QUALITY` if it was one, else as PNG. Smaller images, and all for None, stay as they are.

    Raises:
      Unusable: it cannot be read or decoded.
    """
    encoded = read_encoded(source, index)
    try:
        image = _decoded(tf.constant(encoded))
    except tf.errors.OpError as error:
        raise Unusable(reason_of(error)) from None
    if image_size is None or min(image.shape[:2]) <= image_size:
        return encoded
    return _smaller(image, tf.constant(image_size), tf.constant(format_of(encoded) == "jpeg")).numpy()


def read_encoded(source: ImageSource, index: int) -> bytes:
    """The encoded image, not yet decoded.

    Raises:
      Unusable: it cannot be read.
    """
    try:
        return source.read(index)
    except Exception as error:  # A source that converts its images may raise anything; its text is the reason.
        raise Unusable(reason_of(error)) from None


# A graph: called piece by piece, this takes 3.0 ms for a photograph of 200x150, and 1.3 so.
@tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
def _decoded(encoded):
    """The file as uint8 [H, W, 3], every part of it looked at."""
    return decode_image(encoded, thorough=True)


@tf.function(
    input_signature=[
        tf.TensorSpec([None, None, 3], tf.uint8),
        tf.TensorSpec([], tf.int32),
        tf.TensorSpec([], tf.bool),
    ]
)
def _smaller(image, image_size, is_jpeg):
    """uint8 [H, W, 3] -> the encoded image with `image_size` px at its shorter side."""
    sides = tf.shape(image)[:2]
    scale = tf.cast(image_size, tf.float32) / tf.cast(tf.reduce_min(sides), tf.float32)
    # Whole pixels; the shorter side is exact.
    size = tf.cast(tf.round(tf.cast(sides, tf.float32) * scale), tf.int32)
    resized = tf.image.resize(tf.cast(image, tf.float32), size, antialias=True)
    pixels = tf.cast(tf.round(tf.clip_by_value(resized, 0, 255)), tf.uint8)
    return tf.cond(
        is_jpeg,
        lambda: tf.io.encode_jpeg(pixels, quality=JPEG_QUALITY, chroma_downsampling=False),
        lambda: tf.io.encode_png(pixels),
    )
