"""View policies: decoded images and their seeds -> augmented views.

The same seed gives the same pixels, whatever stands beside the image in its batch. The operations and their ranges are
MoCo v2's (Chen et al. 2020) as SimSiam uses them (arXiv 2011.10566, appendix A).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from bitkeras.data.augment_draws import draw_parameters, draw_uniforms, draw_windows
from bitkeras.data.augment_pixels import crop_and_resize, finish_views
from bitkeras.data.pictures import Shrinking
from bitkeras.errors import UserError
from bitkeras.precision import precision_policy


@dataclasses.dataclass(frozen=True)
class Policy:
    """How views are made.

    Attributes:
      make_views: `(pictures, seeds, *, num_views)` -> float32 [num_views, N, S, S, 3] in [-1, 1]. `pictures` are N
        images as in `bitkeras.data.pictures`; `seeds` int64 [N, 3] with (seed, epoch, image) of each.
      shrinking: by how much the images are shrunk while they are decoded.
      halves: `make_views` as two functions, where the second can run on an accelerator: pictures -> uint8 [N, R, R, 3];
        such images, any number, `*, num_views` -> views. None where it cannot.
    """

    make_views: Callable[..., tf.Tensor]
    shrinking: Shrinking
    halves: tuple[Callable[..., tf.Tensor], Callable[..., tf.Tensor]] | None = None


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Ranges and probabilities of one policy.

    Attributes:
      crop_area: smallest and largest share of the image that a crop covers; its aspect ratio is in (3/4, 4/3).
      brightness, contrast, saturation: factors are drawn from [1 - x, 1 + x].
      hue: shift drawn from [-x, x] turns.
      jitter_probability, grey_probability, blur_probability: how often the operation is applied.
      vertical_flip: flip top to bottom half of the time; left to right is always done.
      quarter_turns: with both flips, all eight ways to lay a square are as likely.
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
    quarter_turns: bool = False


RECIPES = {
    "simsiam": Recipe(),
    # Blur is left out on 32x32 images (SimSiam, appendix D).
    "cifar": Recipe(blur_probability=0.0),
    # A lesion has no top and no sides, and its colours are evidence: milder jitter, no grey.
    "dermatoscopy": Recipe(
        crop_area=(0.35, 1.0),
        brightness=0.15,
        contrast=0.2,
        saturation=0.2,
        hue=0.02,
        grey_probability=0.0,
        vertical_flip=True,
        quarter_turns=True,
    ),
}
# Images that views are made of at once: enough to share the cost of an op, few enough to be traced in a second and to
# stay in the processor's cache.
GROUP = 8
VIEW_POLICIES = (*RECIPES, "keras_cv")


def make_policy(name: str, *, image_size: int, seed: int = 0) -> Policy:
    """The policy `name` of `VIEW_POLICIES` for views of `image_size` px.

    `keras_cv` is the recipe `simsiam` from keras-cv's layers; they draw from their own generators, seeded once with
    `seed`, so views depend on the order in which threads take images.

    Raises:
      UserError: for an unknown name.
    """
    if name == "keras_cv":
        from bitkeras.data.augment_keras_cv import KerasCvViews

        # Under mixed_float16 the layers would crop and colour in float16, and some cannot.
        with precision_policy("float32"):
            layers = KerasCvViews(RECIPES["simsiam"], image_size=image_size, seed=seed)
        return Policy(layers.make_views, Shrinking(), (layers.shrink, layers.finish))
    if name not in RECIPES:
        raise UserError(f"There is no view policy {name!r}; pass one of {', '.join(VIEW_POLICIES)}.")
    recipe = RECIPES[name]
    shrinking = Shrinking(recipe.crop_area[0], image_size)
    return Policy(lambda *args, **kwargs: _views(recipe, shrinking, *args, **kwargs), shrinking)


def _views(recipe: Recipe, shrinking: Shrinking, pictures, seeds, *, num_views: int):
    image_size = shrinking.image_size
    uniforms = draw_uniforms(seeds, num_views=num_views)
    images, windows = pictures.parts(lambda *sides: draw_windows(uniforms, *sides, area=recipe.crop_area), shrinking)
    crops = crop_and_resize(images, windows, image_size=image_size)
    draws = draw_parameters(tf.reshape(uniforms, [-1, uniforms.shape[-1]]), recipe, image_size=image_size)
    views = finish_views(tf.reshape(crops, [-1, image_size, 3, image_size]), draws)
    return tf.reshape(views, [num_views, len(images), image_size, image_size, 3])


def random_crops(pictures, seeds, *, area: tuple[float, float], image_size: int):
    """The crop and the left-to-right flip of a policy alone, as BiT is trained.

    Args:
      pictures, seeds: N images and their seeds, as in `Policy`.
      area: smallest and largest share of an image that its crop covers.
      image_size: S.

    Returns:
      float32 [N, S, S, 3] in [-1, 1].
    """
    # Each image is flipped for itself, half of the time: BiT's first release flipped whole batches or none.
    recipe = Recipe(crop_area=area, jitter_probability=0.0, grey_probability=0.0, blur_probability=0.0)
    return _views(recipe, Shrinking(area[0], image_size), pictures, seeds, num_views=1)[0]
