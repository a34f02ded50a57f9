"""The view operations once more, slowly: NumPy, colorsys and Pillow instead of TensorFlow."""

import colorsys
import math

import numpy as np
from PIL import Image, ImageEnhance


def crop_window(height, width, area, rng):
    """torchvision's RandomResizedCrop.get_params: (top, left, height, width)."""
    for _ in range(10):
        target = rng.uniform(*area) * height * width
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            return rng.integers(0, height - h + 1), rng.integers(0, width - w + 1), h, w
    if width / height < 3 / 4:
        h, w = round(width / (3 / 4)), width
    elif width / height > 4 / 3:
        h, w = height, round(height * 4 / 3)
    else:
        h, w = height, width
    return (height - h) // 2, (width - w) // 2, h, w


def pillow_enhance(operation, image, factor):
    """ImageEnhance.Brightness, .Contrast or .Color of an image in [0, 1], in Pillow's whole levels."""
    levels = Image.fromarray(np.round(image * 255).astype(np.uint8))
    return np.asarray(getattr(ImageEnhance, operation)(levels).enhance(factor)) / 255.0


def luma(image):
    """ITU-R 601 luma [H, W] of [H, W, 3]."""
    return 0.299 * image[..., 0] + 0.587 * image[..., 1] + 0.114 * image[..., 2]


def brightness(image, factor):
    return np.clip(image * factor, 0, 1)


def contrast(image, factor):
    mean = luma(image).mean()
    return np.clip(mean + (image - mean) * factor, 0, 1)


def saturation(image, factor):
    flat = luma(image)[..., None]
    return np.clip(flat + (image - flat) * factor, 0, 1)


def hue(image, turns):
    def shifted(pixel):
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        return colorsys.hsv_to_rgb((h + turns) % 1.0, s, v)

    return np.array([[shifted(pixel) for pixel in row] for row in image])


def gaussian(offsets, sigma):
    """The normalised Gaussian at whole offsets."""
    weights = np.exp(-0.5 * (np.asarray(offsets, float) / sigma) ** 2)
    return weights / weights.sum()


def kolmogorov_distance(sample, reference):
    """Largest gap between the empirical distribution functions of two samples."""
    points = np.concatenate([sample, reference])
    below = [np.searchsorted(np.sort(values), points, side="right") / len(values) for values in (sample, reference)]
    return np.abs(below[0] - below[1]).max()


def kolmogorov_limit(n, m):
    """The distance that two samples of one distribution exceed once in a thousand times."""
    return 1.95 * math.sqrt((n + m) / (n * m))
