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


def crop(image, window, image_size):
    """The window (top, left, height, width) of a [H, W, 3] image in [0, 255], resized by Pillow in float32."""
    top, left, height, width = (int(value) for value in window)
    part = np.asarray(image, np.float32)[top : top + height, left : left + width]
    planes = [Image.fromarray(part[..., channel]) for channel in range(3)]
    return np.stack([np.asarray(plane.resize((image_size,) * 2, Image.BILINEAR)) for plane in planes], axis=-1)


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


def grey(image, _=None):
    return np.repeat(luma(image)[..., None], 3, axis=-1)


def blur(image, sigma, radius):
    """[S, S, 3] convolved with a Gaussian along rows and columns, reflected at the border without repeating it."""
    weights, size = gaussian(np.arange(-radius, radius + 1), sigma), len(image)
    blurring = np.zeros((size, size))
    for pixel in range(size):
        for offset, weight in zip(range(-radius, radius + 1), weights):
            source = abs(pixel + offset)
            blurring[pixel, source if source < size else 2 * (size - 1) - source] += weight
    return np.einsum("yi,ijc,xj->yxc", blurring, image, blurring, optimize=True)


def view(image, window, operations, *, sigma, radius, mirrored, upside_down, transposed, image_size):
    """A view in [-1, 1] in the order of the papers; `operations` are (name, strength), `sigma` None for no blur."""
    pixels = crop(image, window, image_size).astype(float) / 255
    for name, strength in operations:
        pixels = np.clip(globals()[name](pixels, strength), 0, 1)
    pixels = pixels if sigma is None else blur(pixels, sigma, radius)
    pixels = pixels[:, ::-1] if mirrored else pixels
    pixels = pixels[::-1] if upside_down else pixels
    pixels = pixels.transpose(1, 0, 2) if transposed else pixels
    return 2 * pixels - 1


def philox_uniforms(key, counter, number):
    """`number` uniforms in [0, 1) of Philox4x32-10 (Salmon et al. 2011): 64-bit key, 128-bit counter."""
    words = []
    while len(words) < number:
        block = [(counter >> shift) & 0xFFFFFFFF for shift in (0, 32, 64, 96)]
        keys = [key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF]
        for _ in range(10):
            a, b = 0xD2511F53 * block[0], 0xCD9E8D57 * block[2]
            block = [b >> 32 ^ block[1] ^ keys[0], b & 0xFFFFFFFF, a >> 32 ^ block[3] ^ keys[1], a & 0xFFFFFFFF]
            keys = [(keys[0] + 0x9E3779B9) & 0xFFFFFFFF, (keys[1] + 0xBB67AE85) & 0xFFFFFFFF]
        words += block
        counter += 1
    return np.array([(word & 0x7FFFFF) / 2**23 for word in words[:number]])


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
