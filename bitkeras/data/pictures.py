"""Groups of images on their way to views: no more of them is decoded than the windows of their views need.

This goes for JPEG as libjpeg writes it (`image_bytes.is_plain`): its size is known before it is decoded, and nothing
has to be turned or converted. Others are decoded whole, as everywhere. What was measured (docs/results/views.md):

- Of one window, that part alone is decoded, half the work where windows are small. The pixels are the same.
- For two windows of an image it is decoded once and whole: one by one, two windows from (0.2, 1) cost 1.3 to 1.7 times
  that, since all bytes before the end of a window have to be read, which is most of the work.
- Where even the smallest window is much larger than a view, libjpeg makes an image 2, 4 or 8 times smaller while it
  decodes, which then need not be resized as far. The scale depends on the sizes of image and view alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from bitkeras.data.conversion import read_pixels
from bitkeras.data.decoding import FILL, decode_images
from bitkeras.data.image_bytes import plain_jpeg_sizes, read_head

# How many times the view's side even the smallest window keeps (Pillow calls it `reducing_gap`). At 1.5 a pixel of a
# view moves by 0.6 of 255 levels in the mean at ratio 2, by 0.9 at 4 and 8, one in a thousand by more than 3.
_GAP = 1.5
# libjpeg smooths the colours of neighbours, which are of half the resolution: with fewer pixels around it the border of
# a window differs by up to 10 levels, with these it is the same.
_MARGIN = 2
_RATIOS = (1, 2, 4, 8)


class Parts(NamedTuple):
    """Of each of N images a part that holds its windows.

    Attributes:
      images: N of uint8 [h, w, 3].
      windows: float32 [V, N, 4], (top, left, height, width) of V windows in each part, px.
    """

    images: list[tf.Tensor]
    windows: tf.Tensor


# (heights, widths), int32 [N] each -> int32 [V, N, 4].
ChooseWindows = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Shrinking:
    """By how much images may be shrunk while they are decoded, since no window of them needs more pixels.

    Attributes:
      smallest_area: of a window, as a share of its image; its aspect ratio is in (3/4, 4/3). 0: they are not shrunk.
      image_size: side of the views, px.
    """

    smallest_area: float = 0.0
    image_size: int = 1

    def ratios(self, sizes: tf.Tensor) -> tf.Tensor:
        """(height, width) of images, int32 [N, 2] -> 1, 2, 4 or 8 for each, int32 [N]."""
        sides = tf.cast(sizes, tf.float32)
        smallest = tf.sqrt(self.smallest_area * 3 / 4 * tf.reduce_prod(sides, axis=-1))
        room = tf.minimum(smallest, tf.reduce_min(sides, axis=-1)) / (_GAP * self.image_size)
        return tf.reduce_max(tf.where(room[:, tf.newaxis] >= _RATIOS[1:], _RATIOS[1:], 1), axis=-1)


class EncodedPictures:
    """N images as files, scalar strings."""

    def __init__(self, encoded: Sequence[tf.Tensor]):
        self._encoded = list(encoded)

    def __len__(self) -> int:
        return len(self._encoded)

    def whole(self) -> list[tf.Tensor]:
        """N of uint8 [H, W, 3]."""
        return decode_images(self._encoded, fallback=read_pixels)

    def parts(self, choose_windows: ChooseWindows, shrinking: Shrinking) -> Parts:
        """The parts with the windows that `choose_windows` chooses."""
        is_plain, others, sizes, ratios = self._look(shrinking)
        windows, boxes = _shrunk_windows(choose_windows, sizes, ratios), None
        if windows.shape[0] == 1:
            boxes, inside = _boxes(windows[0], -(-sizes // ratios[:, tf.newaxis]))
            windows = tf.where(is_plain[:, tf.newaxis], inside, windows)
        return Parts(self._decode(is_plain, ratios, others, boxes), windows)

    def decoded(self, shrinking: Shrinking) -> DecodedPictures:
        """All of the images, as their parts are decoded for two views or more."""
        is_plain, others, sizes, ratios = self._look(shrinking)
        return DecodedPictures(self._decode(is_plain, ratios, others, None), sizes, ratios)

    def _look(self, shrinking: Shrinking) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """Which images are plain JPEGs, bool [N]; the others; sizes, int32 [N, 2]; ratios, int32 [N]."""
        is_plain, sizes = plain_jpeg_sizes(tf.stack([read_head(one) for one in self._encoded]))
        others = self._others(is_plain)
        sizes = tf.where(is_plain[:, tf.newaxis], sizes, tf.stack([tf.shape(image)[:2] for image in others]))
        return is_plain, others, sizes, tf.where(is_plain, shrinking.ratios(sizes), 1)

    def _others(self, is_plain: tf.Tensor) -> list[tf.Tensor]:
        """The images, empty where they are plain JPEGs."""

        def each():
            return [_decode_other(one, plain) for one, plain in zip(self._encoded, tf.unstack(is_plain))]

        def none():
            return [tf.zeros([0, 0, 3], tf.uint8) for _ in self._encoded]

        # A condition for each image costs a tenth of a small one, and most groups are of one kind.
        case = tf.where(tf.reduce_all(is_plain), 2, tf.where(tf.reduce_any(is_plain), 0, 1))
        return _shaped(tf.switch_case(case, [each, self.whole, none]))

    def _decode(self, is_plain, ratios, others, boxes) -> list[tf.Tensor]:
        """Plain JPEGs at their ratio, the part in `boxes` of them (int32 [N, 4]) or all; the others as they are."""
        files = [(one,) for one in self._encoded] if boxes is None else list(zip(self._encoded, tf.unstack(boxes)))
        decode = _decode_jpeg if boxes is None else _decode_box

        def each():
            cases = tf.unstack(tf.where(is_plain, ratios, 0))
            return [_at_ratio(decode, ratio, image, *file) for ratio, image, file in zip(cases, others, files)]

        def unshrunk():
            return [decode(*file, 1) for file in files]

        is_unshrunk = tf.reduce_all(is_plain & (ratios == 1))
        case = tf.where(is_unshrunk, 1, tf.where(tf.reduce_any(is_plain), 0, 2))
        images = _shaped(tf.switch_case(case, [each, unshrunk, lambda: others]))
        return self._require_data(images, is_plain)

    def _require_data(self, images: list[tf.Tensor], is_plain: tf.Tensor) -> list[tf.Tensor]:
        """The images, or what `whole` raises where a plain JPEG lacks data; if any of a part, then its last pixel."""

        def look_at_all():
            # Honest pictures may have this grey in a corner too.
            with tf.control_dependencies(self.whole()):
                return [tf.identity(image) for image in images]

        is_filled = tf.reduce_all(tf.stack([image[-1, -1] for image in images]) == FILL, axis=-1)
        return _shaped(tf.cond(tf.reduce_any(is_plain & is_filled), look_at_all, lambda: images))


class DecodedPictures:
    """N images that are decoded already, at the ratios that are right for the views to be made of them.

    Attributes:
      images: N of uint8 [h, w, 3].
      sizes: int32 [N, 2], (height, width) before they were shrunk.
      ratios: int32 [N].
    """

    def __init__(self, images: Sequence[tf.Tensor], sizes: tf.Tensor, ratios: tf.Tensor):
        self.images, self.sizes, self.ratios = list(images), sizes, ratios

    def __len__(self) -> int:
        return len(self.images)

    def whole(self) -> list[tf.Tensor]:
        """The images."""
        return self.images

    def parts(self, choose_windows: ChooseWindows, shrinking: Shrinking) -> Parts:
        """As `EncodedPictures.parts`; what has been shrunk stays as it is."""
        del shrinking
        return Parts(self.images, _shrunk_windows(choose_windows, self.sizes, self.ratios))


def _shrunk_windows(choose_windows: ChooseWindows, sizes: tf.Tensor, ratios: tf.Tensor) -> tf.Tensor:
    windows = choose_windows(*tf.unstack(sizes, axis=1))
    return tf.cast(windows, tf.float32) / tf.cast(ratios, tf.float32)[:, tf.newaxis]


def _boxes(windows: tf.Tensor, sizes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """What to decode of each image, int32 [N, 4], and where in it the window [N, 4] lies."""
    corners, sides = windows[:, :2], windows[:, 2:]
    firsts = tf.maximum(tf.cast(tf.floor(corners), tf.int32) - _MARGIN, 0)
    lasts = tf.minimum(tf.cast(tf.math.ceil(corners + sides), tf.int32) + _MARGIN, sizes)
    inside = tf.concat([corners - tf.cast(firsts, tf.float32), sides], axis=-1)
    return tf.concat([firsts, lasts - firsts], axis=-1), inside


def _decode_jpeg(encoded: tf.Tensor, ratio: int) -> tf.Tensor:
    return tf.io.decode_jpeg(encoded, channels=3, ratio=ratio)


def _decode_box(encoded: tf.Tensor, box: tf.Tensor, ratio: int) -> tf.Tensor:
    return tf.image.decode_and_crop_jpeg(encoded, box, channels=3, ratio=ratio)


# Functions, so that the conditions are traced once and not for every image of a group.
@tf.function(autograph=False)
def _decode_other(encoded: tf.Tensor, is_plain: tf.Tensor) -> tf.Tensor:
    (image,) = _shaped(
        [
            tf.cond(
                is_plain,
                lambda: tf.zeros([0, 0, 3], tf.uint8),
                lambda: decode_images([encoded], fallback=read_pixels)[0],
            )
        ]
    )
    return image


@tf.function(autograph=False, reduce_retracing=True)
def _at_ratio(decode: Callable[..., tf.Tensor], ratio: tf.Tensor, image: tf.Tensor, *file: tf.Tensor) -> tf.Tensor:
    """The file decoded at a ratio, or `image` where that is 0."""
    case = tf.reduce_sum(tf.cast(ratio >= _RATIOS, tf.int32))
    (image,) = _shaped(
        [tf.switch_case(case, [lambda: image] + [lambda ratio=ratio: decode(*file, ratio) for ratio in _RATIOS])]
    )
    return image


def _shaped(images: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    for image in images:
        image.set_shape([None, None, 3])
    return list(images)
