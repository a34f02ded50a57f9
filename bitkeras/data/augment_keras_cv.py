"""The view recipe from keras-cv's layers, which also run on an accelerator."""

from __future__ import annotations

import tensorflow as tf

from bitkeras.data.preprocess import to_model_range


def make_keras_cv_view(recipe, *, image_size: int, seed: int):
    """A function: uint8 [H, W, 3] -> a view, float32 [S, S, 3] in [-1, 1], another one at every call.

    As near to the recipe as keras-cv 0.9's layers come: the colour operations run in a fixed order, brightness is
    added instead of multiplied, saturation is changed in HSV, and the crop's aspect ratio is relative to the image's.

    Args:
      recipe: an `augment.Recipe`.
      image_size: S of the view, px.
      seed: seeds the layers' generators, once.
    """
    import keras_cv

    layers, between = keras_cv.layers, _sampler(keras_cv, seed + 6)
    blur_unit = image_size / 224
    kernel_size = max(3, image_size // 10 | 1)
    border = kernel_size // 2
    crop, jitter, grey, blur, flip = (
        layers.RandomCropAndResize(
            (image_size, image_size), between(*recipe.crop_area), between(3 / 4, 4 / 3), seed=seed
        ),
        layers.RandomApply(
            _colour_jitter(layers, recipe, between, seed + 1), rate=recipe.jitter_probability, seed=seed + 2
        ),
        layers.RandomApply(layers.Grayscale(output_channels=3), rate=recipe.grey_probability, seed=seed + 3),
        layers.RandomApply(
            layers.RandomGaussianBlur(kernel_size=kernel_size, factor=between(0.1 * blur_unit, 2.0 * blur_unit)),
            rate=recipe.blur_probability,
            seed=seed + 4,
        ),
        layers.RandomFlip("horizontal_and_vertical" if recipe.vertical_flip else "horizontal", seed=seed + 5),
    )

    def make_view(image):
        view = tf.cast(image, tf.float32)
        # The crop layer samples single pixels and would alias a large photograph.
        view = tf.image.resize(view, tf.minimum(tf.shape(view)[:2], 2 * image_size), antialias=True)
        view = grey(jitter(crop(view)))
        # The blur layer pads with black, which would frame the blurred views.
        view = blur(tf.pad(view, [[border, border], [border, border], [0, 0]], mode="REFLECT"))
        view = flip(view[border:-border, border:-border])
        return tf.ensure_shape(to_model_range(view), [image_size, image_size, 3])

    # Layers make their generators at the first call, and tf.data may not create variables.
    make_view(tf.zeros([2 * image_size, 2 * image_size, 3]))
    return make_view


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
