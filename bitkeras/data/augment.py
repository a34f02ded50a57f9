"""View policies: a decoded image and a seed -> one augmented view.

A policy is a function `(image, seed) -> view`: uint8 [H, W, 3] and int64 [2] -> float32 [S, S, 3] in
[-1, 1]. The same seed gives the same pixels. The operations and their ranges are MoCo v2's (Chen et al. 2020) as
SimSiam uses them (arXiv 2011.10566, appendix A).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import tensorflow as tf

from bitkeras.data.preprocess import to_model_range
from bitkeras.errors import UserError

Policy = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
# ITU-R 601 luma, which Pillow's grey conversion and torchvision use.
LUMA = (0.299, 0.587, 0.114)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Ranges and probabilities of one policy.

    Attributes:
      crop_area: smallest and largest share of the image that a crop covers; its aspect ratio is in (3/4, 4/3).
      brightness, contrast, saturation: factors are drawn from [1 - x, 1 + x].
      hue: shift drawn from [-x, x] turns.
      jitter_probability, grey_probability, blur_probability: how often the operation is applied.
      vertical_flip: flip top to bottom half of the time; left to right is always done.
    """

    crop_area: tuple[float, float] = (0.2, 1.0)
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    jitter_probability: float = 0.8
    grey_probability: float = 0.2
    blur_probability: float = 0.5
    vertical_flip: bool = False


RECIPES = {
    "simsiam": Recipe(),
    # Blur is left out on 32x32 images (SimSiam, appendix D).
    "cifar": Recipe(blur_probability=0.0),
    # A lesion has no top, and its colours are evidence: milder jitter, no grey.
    "dermatoscopy": Recipe(
        crop_area=(0.35, 1.0),
        brightness=0.15,
        contrast=0.2,
        saturation=0.2,
        hue=0.02,
        grey_probability=0.0,
        vertical_flip=True,
    ),
}
VIEW_POLICIES = (*RECIPES, "keras_cv")


def make_policy(name: str, *, image_size: int, seed: int = 0) -> Policy:
    """The policy `name` of `VIEW_POLICIES` for views of `image_size` px.

    `keras_cv` is the recipe `simsiam` from keras-cv's layers; they draw from their own generators, seeded once with
    `seed`, so views depend on the order in which threads take images.

    Raises:
      UserError: for an unknown name.
    """
    if name == "keras_cv":
        from bitkeras.data.augment_keras_cv import make_keras_cv_policy

        return make_keras_cv_policy(RECIPES["simsiam"], image_size=image_size, seed=seed)
    if name not in RECIPES:
        raise UserError(f"There is no view policy {name!r}; pass one of {', '.join(VIEW_POLICIES)}.")
    recipe = RECIPES[name]
    return lambda image, seed: _view(image, seed, recipe, image_size)


def _view(image, seed, recipe: Recipe, image_size: int):
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 6))
    view = random_resized_crop(image, seeds[0], area=recipe.crop_area, image_size=image_size) / 255.0
    view = _sometimes(recipe.jitter_probability, seeds[1], lambda: colour_jitter(view, seeds[1], recipe), view)
    view = _sometimes(recipe.grey_probability, seeds[2], lambda: grey(view), view)
    if recipe.blur_probability:
        view = _sometimes(recipe.blur_probability, seeds[3], lambda: gaussian_blur(view, seeds[3], image_size), view)
    view = _sometimes(0.5, seeds[4], lambda: view[:, ::-1], view)
    if recipe.vertical_flip:
        view = _sometimes(0.5, seeds[5], lambda: view[::-1], view)
    return tf.ensure_shape(to_model_range(view * 255.0), [image_size, image_size, 3])


def _sometimes(probability: float, seed, changed: Callable[[], tf.Tensor], unchanged):
    # The coin and the operation's own draw must not share their bits.
    coin = tf.random.stateless_uniform([], tf.random.experimental.stateless_fold_in(seed, 1))
    return tf.cond(coin < probability, changed, lambda: unchanged)


def random_resized_crop(image, seed, *, area: tuple[float, float], image_size: int):
    """[H, W, 3] -> a random window, resized: float32 [image_size, image_size, 3] in [0, 255].

    The window's area is uniform in `area` and its aspect ratio log-uniform in (3/4, 4/3); after ten windows that
    stand over the border, the largest centred one (torchvision's RandomResizedCrop).
    """
    height, width = (tf.cast(side, tf.float32) for side in tf.unstack(tf.shape(image)[:2]))
    draws = tf.random.stateless_uniform([4, 10], seed)
    areas = (area[0] + draws[0] * (area[1] - area[0])) * height * width
    ratios = tf.exp((2 * draws[1] - 1) * math.log(4 / 3))
    widths, heights = tf.round(tf.sqrt(areas * ratios)), tf.round(tf.sqrt(areas / ratios))
    fits = (widths >= 1) & (widths <= width) & (heights >= 1) & (heights <= height)
    first = tf.argmax(tf.cast(fits, tf.int32))
    found = tf.reduce_any(fits)
    window_width = tf.where(found, widths[first], tf.minimum(width, tf.round(height * 4 / 3)))
    window_height = tf.where(found, heights[first], tf.minimum(height, tf.round(width * 4 / 3)))
    top = tf.where(found, draws[2, first], 0.5) * (height - window_height + 1)
    left = tf.where(found, draws[3, first], 0.5) * (width - window_width + 1)
    top, left = (tf.cast(tf.floor(start), tf.int32) for start in (top, left))
    window = image[top : top + tf.cast(window_height, tf.int32), left : left + tf.cast(window_width, tf.int32)]
    # antialias: without it a window larger than the view is sampled at single pixels, which Pillow never does.
    return tf.image.resize(window, [image_size, image_size], antialias=True)


def colour_jitter(image, seed, recipe: Recipe):
    """[H, W, 3] in [0, 1] -> brightness, contrast, saturation and hue changed, in random order."""
    draws = tf.random.stateless_uniform([4], seed, -1.0, 1.0)
    operations = [
        lambda x: x * (1 + recipe.brightness * draws[0]),
        lambda x: _blend(x, tf.reduce_mean(_luma(x)), 1 + recipe.contrast * draws[1]),
        lambda x: _blend(x, _luma(x), 1 + recipe.saturation * draws[2]),
        lambda x: tf.image.adjust_hue(x, recipe.hue * draws[3]),
    ]
    order = tf.random.experimental.stateless_shuffle(tf.range(4), tf.random.experimental.stateless_fold_in(seed, 2))
    for position in range(4):
        image = tf.clip_by_value(
            tf.switch_case(order[position], [lambda x=image, op=op: op(x) for op in operations]), 0.0, 1.0
        )
    return image


def _luma(image):
    return tf.reduce_sum(image * LUMA, axis=-1, keepdims=True)


def _blend(image, other, factor):
    return other + (image - other) * factor


def grey(image):
    """[H, W, 3] -> its luma in three channels."""
    return tf.repeat(_luma(image), 3, axis=-1)


def gaussian_blur(image, seed, image_size: int):
    """[S, S, 3] -> blurred by a Gaussian of sigma uniform in (0.1, 2) px at 224 px, in proportion at other sizes."""
    # SimSiam's sigma belongs to views of 224 px; the same 2 px at 64 px would wipe out every pigment network.
    sigma = tf.random.stateless_uniform([], seed, 0.1, 2.0) * (image_size / 224)
    radius = max(1, math.ceil(3 * 2.0 * image_size / 224))
    offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
    weights = tf.nn.softmax(-0.5 * (offsets / sigma) ** 2)
    padded = tf.pad(image, [[radius, radius], [radius, radius], [0, 0]], mode="REFLECT")[tf.newaxis]
    kernel = tf.tile(weights[:, tf.newaxis, tf.newaxis, tf.newaxis], [1, 1, 3, 1])
    padded = tf.nn.depthwise_conv2d(padded, kernel, [1, 1, 1, 1], "VALID")
    return tf.nn.depthwise_conv2d(padded, tf.transpose(kernel, [1, 0, 2, 3]), [1, 1, 1, 1], "VALID")[0]
