"""The view recipe from keras-cv's layers, which also run on an accelerator."""

from __future__ import annotations

import tensorflow as tf

from bitkeras.data.preprocess import to_model_range


def make_keras_cv_policy(recipe, *, image_size: int, seed: int):
    """A policy as in `augment.make_policy`; the per-image seed is not used (keras-cv's generators are stateful).

    Args:
      recipe: an `augment.Recipe`.
      image_size: S of the view, px.
      seed: seeds the layers' generators.
    """
    import keras_cv

    layers = keras_cv.layers
    steps = [
        # An aspect ratio in (3/4, 4/3), as everywhere.
        layers.RandomCropAndResize((image_size, image_size), recipe.crop_area, (3 / 4, 4 / 3), seed=seed),
        layers.RandomApply(
            layers.RandomColorJitter(
                value_range=(0, 255),
                brightness_factor=recipe.brightness,
                contrast_factor=recipe.contrast,
                # keras-cv's saturation factor runs over [0, 1] with 0.5 for unchanged.
                saturation_factor=(0.5 - recipe.saturation / 2, 0.5 + recipe.saturation / 2),
                hue_factor=recipe.hue,
                seed=seed + 1,
            ),
            rate=recipe.jitter_probability,
            seed=seed + 2,
        ),
        layers.RandomApply(layers.Grayscale(output_channels=3), rate=recipe.grey_probability, seed=seed + 3),
        layers.RandomApply(
            layers.RandomGaussianBlur(kernel_size=max(3, image_size // 10 | 1), factor=2.0 * image_size / 224),
            rate=recipe.blur_probability,
            seed=seed + 4,
        ),
        layers.RandomFlip("horizontal_and_vertical" if recipe.vertical_flip else "horizontal", seed=seed + 5),
    ]

    def policy(image, seed):
        del seed
        view = tf.cast(image, tf.float32)
        for step in steps:
            view = step(view, training=True)
        return tf.ensure_shape(to_model_range(view), [image_size, image_size, 3])

    # Layers make their generators at the first call, and tf.data may not create variables.
    policy(tf.zeros([2 * image_size, 2 * image_size, 3]), None)
    return policy
