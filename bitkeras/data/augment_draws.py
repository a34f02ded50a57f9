"""What is random about views: uniform numbers from a seed, and the windows and strengths they become."""

from __future__ import annotations

import math
from typing import NamedTuple

import tensorflow as tf

# Steps of a view's programme; the last one swaps rows and columns.
NOTHING, BRIGHTNESS, CONTRAST, SATURATION, HUE, GREY, TRANSPOSE = range(7)
_CROP_TRIES = 10
# For each view: the crop's tries, the coins, the strengths of the jitter, its order, the blur's sigma.
_NUM_UNIFORMS = (4 * _CROP_TRIES, 5, 4, 4, 1)


class Draws(NamedTuple):
    """The parameters of M views, all but their windows.

    Attributes:
      steps: int32 [M, 5 or 6], the operations in their order; `NOTHING` where the coin said no. The sixth is there in
        recipes with quarter turns only.
      strengths: float32 [M, 5 or 6], the factor of brightness, contrast or saturation, the turn of a hue.
      blurred: bool [M].
      sigma: float32 [M], px.
      mirrored: bool [M], left to right.
      upside_down: bool [M].
    """

    steps: tf.Tensor
    strengths: tf.Tensor
    blurred: tf.Tensor
    sigma: tf.Tensor
    mirrored: tf.Tensor
    upside_down: tf.Tensor


def draw_uniforms(seeds: tf.Tensor, *, num_views: int) -> tf.Tensor:
    """float32 [num_views, N, U] in [0, 1) from the int64 [N, 3] (seed, epoch, image): the same for the same row.

    N is known statically.
    """
    # One Philox stream a row: the seed is its key; epoch and image are the upper three quarters of its counter, whose
    # lowest 32 bits count the blocks of a stream. One op a row, where splitting seeds takes dozens.
    epochs = tf.bitwise.left_shift(seeds[:, 1], tf.constant(32, tf.int64))
    keys = tf.unstack(tf.bitcast(seeds[:, :1], tf.uint64))
    counters = tf.unstack(tf.bitcast(tf.stack([epochs, seeds[:, 2]], axis=1), tf.uint64))
    shape = [num_views, sum(_NUM_UNIFORMS)]
    rows = [
        tf.raw_ops.StatelessRandomUniformV2(shape=shape, key=key, counter=counter, alg=tf.random.Algorithm.PHILOX.value)
        for key, counter in zip(keys, counters)
    ]
    return tf.stack(rows, axis=1)


def draw_windows(uniforms: tf.Tensor, heights, widths, *, area: tuple[float, float]) -> tf.Tensor:
    """int32 [..., 4]: (top, left, height, width) of a random window in each image.

    The window's area is uniform in `area` and its aspect ratio log-uniform in (3/4, 4/3); after ten windows that
    stand over the border, the largest centred one (torchvision's RandomResizedCrop).

    Args:
      uniforms: float32 [..., 40 or more] in [0, 1).
      heights, widths: of the images, px; int32 of a shape that broadcasts to [...].
      area: smallest and largest share of the image.
    """
    tries = tf.split(uniforms[..., : 4 * _CROP_TRIES], 4, axis=-1)
    heights, widths = (tf.cast(sides, tf.float32)[..., tf.newaxis] for sides in (heights, widths))
    areas = (area[0] + tries[0] * (area[1] - area[0])) * heights * widths
    ratios = tf.exp((2 * tries[1] - 1) * math.log(4 / 3))
    window_widths, window_heights = tf.round(tf.sqrt(areas * ratios)), tf.round(tf.sqrt(areas / ratios))
    fits = (window_widths >= 1) & (window_widths <= widths) & (window_heights >= 1) & (window_heights <= heights)
    # The largest centred window is the eleventh try, which always fits.
    middles = tf.fill(tf.shape(areas[..., :1]), 0.5)
    chosen = tf.argmax(tf.cast(tf.concat([fits, middles > 0], axis=-1), tf.int32), axis=-1)[..., tf.newaxis]

    def choose(values, otherwise):
        values = tf.concat([values, tf.broadcast_to(otherwise, tf.shape(middles))], axis=-1)
        return tf.gather(values, chosen, axis=-1, batch_dims=len(values.shape) - 1)

    window_heights = choose(window_heights, tf.minimum(heights, tf.round(widths * 4 / 3)))
    window_widths = choose(window_widths, tf.minimum(widths, tf.round(heights * 4 / 3)))
    tops = tf.floor(choose(tries[2], middles) * (heights - window_heights + 1))
    lefts = tf.floor(choose(tries[3], middles) * (widths - window_widths + 1))
    return tf.cast(tf.concat([tops, lefts, window_heights, window_widths], axis=-1), tf.int32)


def draw_parameters(uniforms: tf.Tensor, recipe, *, image_size: int) -> Draws:
    """The other parameters of M views by a `Recipe`, from their uniforms [M, U]."""
    _, coins, strengths, order, sigma = tf.split(uniforms, _NUM_UNIFORMS, axis=-1)
    probabilities = (recipe.jitter_probability, recipe.grey_probability, recipe.blur_probability, 0.5, 0.5)
    jittered, greyed, blurred, mirrored, upside_down = tf.unstack(coins < probabilities, axis=-1)
    ranges = (recipe.brightness, recipe.contrast, recipe.saturation, recipe.hue)
    strengths = tf.constant([1.0, 1.0, 1.0, 0.0]) + (2 * strengths - 1) * ranges
    # Ranks of four uniforms are a uniform permutation.
    order = tf.argsort(order, axis=-1)
    steps = tf.where(jittered[:, tf.newaxis], order + BRIGHTNESS, NOTHING)
    last_steps = [tf.where(greyed, GREY, NOTHING)[:, tf.newaxis]]
    if recipe.quarter_turns:
        # Odd quarters of the coin that turns a view upside down: fair, independent of it, and no other draw moves.
        last_steps += [tf.where(tf.cast(4 * coins[:, 4:], tf.int32) % 2 == 1, TRANSPOSE, NOTHING)]
    return Draws(
        steps=tf.concat([steps, *last_steps], axis=-1),
        strengths=tf.pad(tf.gather(strengths, order, axis=-1, batch_dims=1), [[0, 0], [0, len(last_steps)]]),
        blurred=blurred,
        # SimSiam's (0.1, 2) px belong to views of 224 px; 2 px at 64 px would wipe out every pigment network.
        sigma=(0.1 + 1.9 * sigma[:, 0]) * (image_size / 224),
        mirrored=mirrored,
        upside_down=upside_down & recipe.vertical_flip,
    )
