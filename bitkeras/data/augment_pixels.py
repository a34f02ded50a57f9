"""What views do to pixels: windows cut out and resized, then colours, blur and flips as one compiled function.

Both parts hold views as planes, [x, channel, y] or [channel, x, y]: a row of one channel lies side by side in memory,
which is what a processor's vector instructions need; three interleaved channels are four times slower.
"""

from __future__ import annotations

import math

import tensorflow as tf

from bitkeras.data.augment_draws import NOTHING, Draws

# ITU-R 601 luma, which Pillow's grey conversion and torchvision use.
LUMA = (0.299, 0.587, 0.114)


def crop_and_resize(images: list[tf.Tensor], windows: tf.Tensor, *, image_size: int) -> tf.Tensor:
    """Windows of N images, antialiased to S x S px: float32 [V, N, S (x), 3, S (y)] in the range of the images.

    The same numbers as `tf.image.resize(window, antialias=True)` where the borders of windows lie between pixels.

    Args:
      images: N of [H, W, 3], whose sizes may differ.
      windows: float32 [V, N, 4], (top, left, height, width) of V windows in each, px; a window takes part of the pixels
        that its border crosses.
      image_size: S.
    """
    corners, sides = windows[..., :2], windows[..., 2:]
    # Made for all windows at once: as little ops for each of them they would cost more than the pixels.
    firsts, lasts = tf.floor(corners), tf.math.ceil(corners + sides)
    scales = image_size / sides
    moves = (firsts - corners) * scales
    ones = tf.ones_like(scales)
    firsts, counts = (tf.cast(sides, tf.int32) for sides in (firsts, lasts - firsts))
    heights, widths = tf.unstack(counts, axis=-1)
    tall, deep = tf.ones_like(heights), 3 * tf.ones_like(heights)
    parameters = (
        tf.concat([firsts, tf.zeros_like(firsts[..., :1])], axis=-1),
        tf.stack([heights, widths, deep], axis=-1),
        tf.stack([tall, heights, tall, 3 * widths], axis=-1),
        tf.stack([scales, ones], axis=-1),
        tf.stack([moves, 0 * ones], axis=-1),
    )
    rows = [
        [_crop(image, *of_image, image_size) for image, of_image in zip(images, zip(*map(tf.unstack, of_view)))]
        for of_view in zip(*map(tf.unstack, parameters))
    ]
    return tf.stack([tf.stack(row) for row in rows])


def _crop(image, start, size, shape, scales, moves, image_size: int):
    # ScaleAndTranslate handles columns pixel by pixel and rows as vectors, so both axes take their turn as rows; each
    # as the only column of an image with many channels.
    window = tf.reshape(tf.slice(image, start, size), shape)
    window = tf.reshape(_resize_rows(window, scales[0], moves[0], image_size), [image_size, -1])
    window = tf.reshape(tf.transpose(window), [1, -1, 1, 3 * image_size])
    return tf.reshape(_resize_rows(window, scales[1], moves[1], image_size), [image_size, 3, image_size])


def _resize_rows(image, scale, move, num_rows: int):
    return tf.raw_ops.ScaleAndTranslate(
        images=image,
        size=[num_rows, 1],
        scale=scale,
        translation=move,
        kernel_type="triangle",
        # Without it a window larger than the view is sampled at single pixels, which Pillow never does.
        antialias=True,
    )


# Compiled: as separate ops each of about eighty steps would read and write every pixel. One view after the other, so
# that a view stays in the cache and only the operations that it drew are computed.
@tf.function(jit_compile=True)
def finish_views(crops: tf.Tensor, draws: Draws) -> tf.Tensor:
    """Crops as planes, float32 [M, S (x), 3, S (y)] in [0, 255], -> views [M, S, S, 3] in [-1, 1]."""
    return tf.map_fn(lambda view: _finish_view(*view), (crops, draws), fn_output_signature=tf.float32)


def _finish_view(crop, draw: Draws):
    planes = tf.transpose(crop, [1, 0, 2]) * (1 / 255)
    # First instead of last, where it costs nothing: no other operation knows left from right.
    planes = tf.where(draw.mirrored, planes[:, ::-1], planes)
    planes = tf.where(draw.upside_down, planes[:, :, ::-1], planes)
    planes = _run_programme(planes, draw.steps, draw.strengths)
    weights = blur_weights(draw.sigma, crop.shape[0])
    # A condition for each axis: the compiler would otherwise compute the first blur anew for every tap of the second.
    for axis in (1, 2):
        planes = tf.cond(
            draw.blurred, lambda planes=planes, axis=axis: blur(planes, weights, axis), lambda planes=planes: planes
        )
    return 2.0 * tf.transpose(planes, [2, 1, 0]) - 1.0


def _run_programme(planes, steps, strengths):
    num_steps = steps.shape[0]
    numbers = tf.range(num_steps)

    def next_after(number):
        # A step of nothing would still copy the view.
        return tf.reduce_min(tf.where((steps != NOTHING) & (numbers > number), numbers, num_steps))

    _, planes = tf.while_loop(
        lambda number, planes: number < num_steps,
        lambda number, planes: (next_after(number), change(planes, steps[number], strengths[number])),
        (next_after(-1), planes),
        maximum_iterations=num_steps,
    )
    return planes


def change(planes: tf.Tensor, step: tf.Tensor, strength: tf.Tensor) -> tf.Tensor:
    """One step of a programme on the planes [3, S, S] in [0, 1] of a view; the result is clipped to [0, 1]."""
    # In the order of augment_draws: nothing, brightness, contrast, saturation, hue, grey, transpose.
    operations = [
        lambda: planes,
        lambda: _clip(planes * strength),
        lambda: _clip(_blend(planes, _mean(_luma(planes)), strength)),
        lambda: _clip(_blend(planes, _luma(planes), strength)),
        lambda: _clip(_turn_hue(planes, strength)),
        lambda: tf.repeat(_luma(planes), 3, axis=0),
        lambda: tf.transpose(planes, [0, 2, 1]),
    ]
    return tf.switch_case(step, operations)


def _clip(planes):
    return tf.clip_by_value(planes, 0.0, 1.0)


def _luma(planes):
    return tf.reduce_sum(planes * tf.reshape(LUMA, [3, 1, 1]), axis=0, keepdims=True)


def _mean(plane):
    # Axis by axis: one running float32 sum over 224 x 224 px would lose digits.
    return tf.reduce_mean(tf.reduce_mean(plane, axis=1), axis=-1)


def _blend(planes, others, factor):
    return others + (planes - others) * factor


def _turn_hue(planes, turn):
    """The HSV hue moved by `turn`, in turns; HSV's value and saturation stay."""
    red, green, blue = tf.unstack(planes)
    value = tf.reduce_max(planes, axis=0)
    chroma = value - tf.reduce_min(planes, axis=0)
    unit = 1.0 / tf.maximum(chroma, 1e-20)
    hue = tf.where(
        value == red,
        (green - blue) * unit,
        tf.where(value == green, 2.0 + (blue - red) * unit, 4.0 + (red - green) * unit),
    )
    # In sixths of a turn, channel n falls from the value to the value less the chroma at n.
    sixths = hue + 6.0 * turn + tf.reshape([5.0, 3.0, 1.0], [3, 1, 1])
    sixths -= 6.0 * tf.floor(sixths * (1 / 6))
    return value - chroma * _clip(tf.minimum(sixths, 4.0 - sixths))


def blur_weights(sigma: tf.Tensor, image_size: int) -> tf.Tensor:
    """float32 [2 * radius + 1]: a Gaussian of `sigma` px, cut at three times the largest sigma (2 px at 224 px)."""
    radius = max(1, math.ceil(3 * 2.0 * image_size / 224))
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    return tf.nn.softmax(-0.5 * (offsets / sigma) ** 2)


def blur(planes: tf.Tensor, weights: tf.Tensor, axis: int) -> tf.Tensor:
    """[3, S, S] -> each row (or column) convolved with `weights`, reflected at the border."""
    size, num_taps = planes.shape[axis], weights.shape[0]
    borders = [[num_taps // 2] * 2 if axis == padded else [0, 0] for padded in range(3)]
    padded = tf.pad(planes, borders, mode="REFLECT")
    shifted = [padded[:, tap : tap + size] if axis == 1 else padded[:, :, tap : tap + size] for tap in range(num_taps)]
    return tf.add_n([weights[tap] * plane for tap, plane in enumerate(shifted)])
