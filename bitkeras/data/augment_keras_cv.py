"""The view recipe from keras-cv's layers, which also run on an accelerator.

Two halves: `shrink` belongs to the processor, since images have sizes of their own; `finish` makes all views of a batch
and runs wherever it is called, in tf.data or in the training step.
"""

from __future__ import annotations

import tensorflow as tf

from bitkeras.data.augment_pixels import crop_and_resize
from bitkeras.data.preprocess import to_model_range


class KerasCvViews:
    """Views of a recipe, other ones at every call, whatever the seeds of the images.

    As near to the recipe as keras-cv 0.9's layers come: the colour operations run in a fixed order, brightness is
    added instead of multiplied, saturation is changed in HSV, and the crop's aspect ratio is relative to the image's.

    Args:
      recipe: an `augment.Recipe`; quarter turns are left out.
      image_size: S of the view, px.
      seed: seeds the layers' generators, once.
    """

    def __init__(self, recipe, *, image_size: int, seed: int):
        import keras_cv

        layers, between = keras_cv.layers, _sampler(keras_cv, seed + 6)
        self.image_size, self._border = image_size, max(3, image_size // 10 | 1) // 2
        unit = image_size / 224
        blur = layers.RandomGaussianBlur(kernel_size=2 * self._border + 1, factor=between(0.1 * unit, 2.0 * unit))
        jitter = _colour_jitter(layers, recipe, between, seed + 1)
        self._crop = layers.RandomCropAndResize(
            (image_size, image_size), between(*recipe.crop_area), between(3 / 4, 4 / 3), seed=seed
        )
        # Vectorised, it would become one loop an operation.
        self._crop.auto_vectorize = False
        self._jitter = layers.RandomApply(jitter, rate=recipe.jitter_probability, seed=seed + 2)
        self._grey = layers.RandomApply(
            layers.Grayscale(output_channels=3), rate=recipe.grey_probability, seed=seed + 3
        )
        self._blur = layers.RandomApply(blur, rate=recipe.blur_probability, seed=seed + 4)
        self._flip = layers.RandomFlip(
            "horizontal_and_vertical" if recipe.vertical_flip else "horizontal", seed=seed + 5
        )
        # Layers make their generators at the first call, and tf.data may not create variables.
        self.finish(tf.zeros([1, 2 * image_size, 2 * image_size, 3], tf.uint8), num_views=1)

    def make_views(self, pictures, seeds, *, num_views: int) -> tf.Tensor:
        """As `Policy.make_views`, but for the seeds."""
        del seeds
        return self.finish(self.shrink(pictures), num_views=num_views)

    def shrink(self, pictures) -> tf.Tensor:
        """N pictures -> uint8 [N, 2S, 2S, 3]; the crop layer samples single pixels, and larger ones would alias."""
        images = pictures.whole()
        windows = tf.stack([tf.concat([[0, 0], tf.shape(image)[:2]], axis=0) for image in images])
        planes = crop_and_resize(images, tf.cast(windows[tf.newaxis], tf.float32), image_size=2 * self.image_size)[0]
        return tf.cast(tf.round(tf.transpose(planes, [0, 3, 1, 2])), tf.uint8)

    def finish(self, images: tf.Tensor, *, num_views: int) -> tf.Tensor:
        """Of `shrink`'s images, as many as there are, float32 [num_views, N, S, S, 3] in [-1, 1]."""
        size, border = self.image_size, self._border
        views = self._crop(tf.cast(tf.tile(images, [num_views, 1, 1, 1]), tf.float32))
        views = self._grey(self._jitter(views))
        # The blur layer pads with black, which would frame the blurred views.
        views = tf.pad(views, [[0, 0], [border, border], [border, border], [0, 0]], mode="REFLECT")
        views = self._flip(self._blur(views)[:, border:-border, border:-border])
        return to_model_range(tf.reshape(views, [num_views, -1, size, size, 3]))


def _sampler(keras_cv, seed: int):
    """A class of keras-cv's factor samplers that share one generator.

    keras-cv's own uses `tf.random.uniform`, which draws the same numbers in every op of the same seed: the crop's area
    would then follow its aspect ratio, and the second view of an image the first.
    """
    generator = tf.random.Generator.from_seed(seed)

    class Uniform(keras_cv.core.UniformFactorSampler):
        """Uniform between `lower` and `upper`."""

        def __call__(self, shape=(), dtype="float32"):
            return generator.uniform(shape, self.lower, self.upper, dtype)

    return Uniform


def _colour_jitter(layers, recipe, between, seed: int):
    """keras-cv's RandomColorJitter with the recipe's ranges in that layer's units."""

    def saturation(factor: float) -> float:
        # keras-cv multiplies by x / (1 - x).
        return factor / (1 + factor)

    jitter = layers.RandomColorJitter(
        value_range=(0, 255),
        # Added as a share of the value range; at mid-grey, half of it does what the recipe's factor does.
        brightness_factor=between(-recipe.brightness / 2, recipe.brightness / 2),
        contrast_factor=recipe.contrast,
        saturation_factor=between(saturation(1 - recipe.saturation), saturation(1 + recipe.saturation)),
        # In half turns, with a random sign.
        hue_factor=between(0.0, 2 * recipe.hue),
        seed=seed,
    )
    # The one factor for which the layer takes numbers only.
    jitter.random_contrast.factor = between(1 - recipe.contrast, 1 + recipe.contrast)
    return jitter
