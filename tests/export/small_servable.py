"""A small real encoder and pictures of several kinds."""

from __future__ import annotations

import io

import numpy as np
import tensorflow as tf
from PIL import Image

from bitkeras.evaluation.novelty import Familiar, fit_familiar
from export.servable import Servable

IMAGE_SIZE = 32
CLASS_NAMES = ("mel", "nävus", "bcc")


def build_encoder(*, bn_training=None, dtype="float32") -> tf.keras.Model:
    """Conv, BN, ReLU, average: [B, 32, 32, 3] -> [B, 8], with BN statistics that are not the initial ones."""
    tf.keras.utils.set_random_seed(3)
    layers = tf.keras.layers
    images = layers.Input([IMAGE_SIZE, IMAGE_SIZE, 3])
    x = layers.Conv2D(8, 3, strides=2, kernel_initializer="he_normal", dtype=dtype)(images)
    batch_norm = layers.BatchNormalization(dtype=dtype)
    x = batch_norm(x) if bn_training is None else batch_norm(x, training=bn_training)
    features = layers.GlobalAveragePooling2D(dtype=dtype)(layers.ReLU(dtype=dtype)(x))
    batch_norm.moving_mean.assign(np.linspace(-0.5, 0.5, 8))
    batch_norm.moving_variance.assign(np.linspace(0.1, 0.6, 8))
    return tf.keras.Model(images, features)


def build_servable(encoder=None) -> Servable:
    rng = np.random.default_rng(0)
    kernel, bias = rng.normal(size=[8, 3]).astype(np.float32), np.array([0.1, -0.2, 0.3], np.float32)
    names = {"class_names": CLASS_NAMES, "image_size": IMAGE_SIZE}
    return Servable(encoder or build_encoder(), kernel, bias, familiar=made_familiar(), **names)


def made_familiar() -> Familiar:
    rng = np.random.default_rng(1)
    return fit_familiar(*(rng.normal(0.3, 0.2, [count, 8]).astype(np.float32) for count in (40, 200)))


def picture(height: int, width: int, *, seed: int, channels: int = 3) -> np.ndarray:
    """A dark disc on skin-like ground, uint8 [H, W, channels]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / [[[height]], [[width]]]
    disc = (x - rng.uniform(0.3, 0.7)) ** 2 + (y - rng.uniform(0.3, 0.7)) ** 2 < rng.uniform(0.02, 0.12)
    ground, lesion = rng.uniform(150, 230, channels), rng.uniform(30, 120, channels)
    drawn = np.where(disc[..., np.newaxis], lesion, ground) + rng.normal(0, 6, [height, width, channels])
    return drawn.clip(0, 255).astype(np.uint8)


def encode_pictures() -> list[bytes]:
    """Plain files first, then those that are looked at with care: turned, CMYK, progressive, transparent, 16 bits."""
    jpeg = [tf.io.encode_jpeg(picture(150, 200, seed=seed), quality=90) for seed in (1, 2)]
    jpeg.append(tf.io.encode_jpeg(picture(64, 64, seed=3)))
    grey = tf.io.encode_jpeg(picture(90, 120, seed=4, channels=1), format="grayscale")
    png = tf.io.encode_png(picture(IMAGE_SIZE, IMAGE_SIZE, seed=5))
    plain = [encoded.numpy() for encoded in (*jpeg, grey, png)]
    wide, small = (Image.fromarray(picture(*size, seed=seed)) for size, seed in (((90, 120), 6), ((40, 56), 7)))
    turned = Image.Exif()
    turned[0x0112] = 6
    transparent = small.copy()
    transparent.putalpha(Image.linear_gradient("L").resize(small.size))
    deep = Image.fromarray(picture(40, 56, seed=8, channels=1)[..., 0].astype(np.uint16) * 257)
    return plain + [
        saved(wide, "JPEG", exif=turned),
        saved(wide.convert("CMYK"), "JPEG"),
        saved(wide, "JPEG", progressive=True),
        saved(transparent, "PNG"),
        saved(deep, "PNG"),
        saved(small, "BMP"),
    ]


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
