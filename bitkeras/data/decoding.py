"""Image files to pixels, as a viewer shows them, with tensor operations alone, so that a served model does the same.

For JPEG, PNG and the commonest BMP; `bitkeras.data.conversion` reads other formats.

- Exif orientation is applied.
- Transparency is laid on white.
- 16 bits are shown by their eight highest, so the full range becomes 0 to 255 (libpng's way).
- CMYK becomes RGB by (255 - ink)(255 - black) / 255, inverted where the file is Adobe's; colour profiles are not read.
- A picture of more than `MAX_PIXELS` is refused before memory is taken for it, and so is a JPEG that lacks data, which
  libjpeg would fill with grey without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from bitkeras.data.image_bytes import (
    JPEG,
    PNG,
    is_plain,
    jpeg_orientation,
    png_has_alpha,
    png_orientation,
    png_size,
    read_head,
    starts_with,
    with_more_data,
)

# What reads the files that are not read here.
Fallback = Callable[[bytes], np.ndarray]

# 600 MB decoded. The largest photographs of telephones, 16,320 x 12,240 px, are just below.
MAX_PIXELS = 200_000_000
TOO_LARGE = f"it has more than {MAX_PIXELS:,} pixels"
# What libjpeg fills in for missing data: all coefficients zero.
FILL = 128


def decode_image(encoded: tf.Tensor, *, fallback: Fallback | None = None, thorough: bool = False) -> tf.Tensor:
    """`decode_images` of one file (scalar string) -> uint8 [H, W, 3]."""
    return decode_images([encoded], fallback=fallback, thorough=thorough)[0]


# Its conditions are written out, and looking for others would double the time that tracing takes.
@tf.autograph.experimental.do_not_convert
def decode_images(
    encoded: Sequence[tf.Tensor], *, fallback: Fallback | None = None, thorough: bool = False
) -> list[tf.Tensor]:
    """Image files, scalar strings -> as many uint8 [H, W, 3], each of its own size, as a viewer shows them.

    Files as libjpeg and libpng usually write them take a short way, and several together take it cheaper than one by
    one: a condition costs as much as a tenth of a small JPEG.

    Args:
      encoded: JPEG, PNG, or uncompressed BMP of 24 bits.
      fallback: bytes of any other file -> uint8 [H, W, 3], or a ValueError. A Python function, so not for export.
      thorough: decode each JPEG twice, to see data missing in its middle too and not only at its end. A changed bit
        that still decodes is seen by nobody.

    Raises:
      tf.errors.InvalidArgumentError: a file is no image, is damaged, or is too large.
    """
    if thorough:
        return _decode_with_care(encoded, fallback, thorough)
    images, is_done = _decode_plain(encoded)
    return tf.cond(is_done, lambda: images, lambda: _decode_with_care(encoded, fallback, thorough))


def _decode(encoded: tf.Tensor, *, channels: int = 3) -> tf.Tensor:
    # expand_animations=False: the rank is then 3 for every format.
    image = tf.io.decode_image(encoded, channels=channels, expand_animations=False)
    image.set_shape([None, None, channels])
    return image


def _decode_plain(encoded: Sequence[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
    """(the images, True), or (anything, False) where one of the files has to be looked at with care."""

    def decode():
        images = [_decode(one) for one in encoded]
        # An honest picture may end in this grey too.
        is_filled = tf.reduce_all(tf.stack([image[-1, -1] for image in images]) == FILL, axis=-1)
        return images, ~tf.reduce_any(is_filled)

    def leave():
        return [tf.zeros([0, 0, 3], tf.uint8) for _ in encoded], False

    heads = tf.stack([read_head(one) for one in encoded])
    return tf.cond(tf.reduce_all(is_plain(heads)), decode, leave)


def _decode_with_care(encoded: Sequence[tf.Tensor], fallback: Fallback | None, thorough: bool) -> list[tf.Tensor]:
    # A loop, since every copy of its many operations would take seconds to be traced.
    files, num_files = tf.stack(encoded), len(encoded)

    def decode(file):
        if fallback is None:
            return _decode_known(file, thorough)
        is_known = _is_known(read_head(file))
        return tf.cond(is_known, lambda: _decode_known(file, thorough), lambda: _fall_back(file, fallback))

    images = tf.TensorArray(tf.uint8, num_files, element_shape=[None, None, 3], infer_shape=False)
    _, images = tf.while_loop(
        lambda number, _: number < num_files,
        lambda number, images: (number + 1, images.write(number, decode(files[number]))),
        (0, images),
        parallel_iterations=num_files,
    )
    return [images.read(number) for number in range(num_files)]


def _fall_back(file: tf.Tensor, fallback: Fallback) -> tf.Tensor:
    def read(file):
        # In eager code TensorFlow hands over an array of one object.
        return fallback(file if isinstance(file, bytes) else file.item())

    # stateful=False: with op determinism, tf.data would otherwise make one image at a time.
    image = tf.numpy_function(read, [file], tf.uint8, stateful=False)
    image.set_shape([None, None, 3])
    return image


def _is_known(head: tf.Tensor) -> tf.Tensor:
    return starts_with(head, JPEG) | starts_with(head, PNG) | is_plain(head)


# Traced once in a process, and prepared to run only where a file comes this way.
@tf.function(
    input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.bool)],
    autograph=False,
    experimental_attributes={"_noinline": True},
)
def _decode_known(encoded, thorough):
    head = read_head(encoded)

    def other():
        with tf.control_dependencies([_require(is_plain(head), "it is no JPEG, PNG or uncompressed BMP of 24 bits")]):
            return _decode(encoded)

    return tf.cond(
        starts_with(head, JPEG),
        lambda: _decode_jpeg(encoded, thorough),
        lambda: tf.cond(starts_with(head, PNG), lambda: _decode_png(encoded, head), other),
    )


def _decode_jpeg(encoded: tf.Tensor, thorough: tf.Tensor) -> tf.Tensor:
    height, width, channels = tf.unstack(tf.image.extract_jpeg_shape(encoded, tf.int64))
    with tf.control_dependencies([_require(height * width <= MAX_PIXELS, TOO_LARGE)]):
        image = _decode(encoded)
    # What is filled in for CMYK is another colour, which depends on the file.
    is_doubtful = thorough | (channels == 4) | tf.reduce_all(image[-1, -1] == FILL)
    image = tf.cond(is_doubtful, lambda: _require_whole(encoded, image), lambda: image)
    return _upright(image, jpeg_orientation(encoded))


def _require_whole(encoded: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """`image`, which is the JPEG `encoded` as it was decoded, or an InvalidArgumentError where that lacks data."""
    is_same = tf.reduce_all(image == _decode(with_more_data(encoded)))
    with tf.control_dependencies([_require(is_same, "it is a JPEG that lacks part of its data")]):
        return tf.identity(image)


def _decode_png(encoded: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    # Each side is cut first: the product of two 32-bit numbers does not fit into int64.
    height, width = (tf.minimum(side, MAX_PIXELS + 1) for side in png_size(head))
    with tf.control_dependencies([_require(height * width <= MAX_PIXELS, TOO_LARGE)]):
        # A fourth channel only where there is one: for less than 8 bits without alpha TensorFlow makes up a wrong one.
        image = tf.cond(
            png_has_alpha(encoded, head), lambda: _on_white(_decode(encoded, channels=4)), lambda: _decode(encoded)
        )
    return _upright(image, png_orientation(encoded))


def _on_white(image: tf.Tensor) -> tf.Tensor:
    """uint8 [H, W, 4] -> [H, W, 3]."""
    # At most 255 * 255 + 127, which uint16 holds.
    colours, alpha = tf.cast(image[..., :3], tf.uint16), tf.cast(image[..., 3:], tf.uint16)
    return tf.cast((colours * alpha + 255 * (255 - alpha) + 127) // 255, tf.uint8)


def _upright(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """The image turned and mirrored as Exif (1 to 8) says."""

    def turn():
        is_upside_down, is_mirrored = (
            tf.reduce_any(orientation == tf.constant(cases, tf.int64)) for cases in ([3, 4, 7, 8], [2, 3, 6, 7])
        )
        turned = tf.transpose(image, tf.where(orientation >= 5, [1, 0, 2], [0, 1, 2]))
        return tf.raw_ops.Reverse(tensor=turned, dims=[is_upside_down, is_mirrored, False])

    return tf.cond(orientation > 1, turn, lambda: image)


def _require(condition: tf.Tensor, reason: str) -> tf.Tensor:
    """`condition`, or an InvalidArgumentError with the reason."""
    # Not tf.debugging.Assert, which hides the operation behind another condition.
    with tf.control_dependencies([tf.raw_ops.Assert(condition=condition, data=[reason])]):
        return tf.identity(condition)
