"""A photograph of a phantom lesion: skin, lesion, hairs and gel, then the camera of one of five clinics."""

from __future__ import annotations

import dataclasses

import numpy as np

from bitkeras.data.phantom_fields import Frame, clods, noise, ramp, stroke
from bitkeras.data.phantom_lesions import Layers, draw_lesion

# Absorption in red, green, blue per unit of optical depth: melanin browns, blood reddens, and pigment deep in
# the dermis looks blue, for short wavelengths are scattered back before they reach it.
_MELANIN = np.float32([0.50, 0.90, 1.20])
_BLOOD = np.float32([0.16, 1.00, 0.72])
_BLUE = np.float32([1.10, 0.80, 0.42])
_WHITE = np.float32([0.95, 0.90, 0.87])


@dataclasses.dataclass(frozen=True)
class Camera:
    """How one clinic photographs.

    Attributes:
      gains: white balance, red, green and blue.
      gamma: exponent of the tone curve; above 1 is darker.
      saturation: 1 keeps the colours, 0 is grey.
      vignette: loss of light in the corners, a fraction.
      black_corners: chance of a photograph through a tube, black outside a circle.
      ruler: chance of a scale along a border.
      gel: chance of immersion fluid with bubbles.
      softness: blur, sigma in pixels of a photograph 150 pixels high.
      grain: sensor noise, standard deviation in [0, 1].
      skin: (least, greatest) melanin of the clinic's patients, optical depth.
    """

    gains: tuple[float, float, float]
    gamma: float
    saturation: float
    vignette: float
    black_corners: float
    ruler: float
    gel: float
    softness: float
    grain: float
    skin: tuple[float, float]


CAMERAS = (
    Camera((1.02, 0.98, 1.00), 1.00, 1.00, 0.10, 0.02, 0.05, 0.10, 0.35, 0.010, (0.00, 0.14)),
    Camera((1.08, 0.88, 0.85), 0.95, 1.10, 0.05, 0.00, 0.02, 0.05, 0.60, 0.014, (0.02, 0.16)),
    Camera((0.93, 0.97, 1.08), 1.20, 0.80, 0.30, 0.30, 0.10, 0.25, 0.30, 0.008, (0.00, 0.12)),
    Camera((1.06, 0.99, 0.84), 1.05, 1.05, 0.18, 0.05, 0.25, 0.15, 0.50, 0.018, (0.05, 0.30)),
    Camera((1.05, 0.88, 1.00), 0.95, 1.05, 0.12, 0.10, 0.05, 0.35, 0.45, 0.012, (0.00, 0.20)),
)
_CAMERA_SHARES = (0.34, 0.28, 0.16, 0.14, 0.08)


def draw_lesion_photo(dx: str, lesion_seed, photo_seed, *, image_size: tuple[int, int] = (200, 150)) -> np.ndarray:
    """One photograph of one lesion, uint8 [H, W, 3].

    Args:
      dx: a name of `phantom_lesions.CLASS_NAMES`.
      lesion_seed: what `numpy.random.default_rng` takes; fixes the lesion, its skin and its clinic.
      photo_seed: the same; fixes the framing, light, hairs and grain.
      image_size: (width, height) in pixels.
    """
    lesion_rng, photo_rng = np.random.default_rng(lesion_seed), np.random.default_rng(photo_seed)
    camera = CAMERAS[lesion_rng.choice(len(CAMERAS), p=_CAMERA_SHARES)]
    frame = _frame(photo_rng, image_size)
    skin = _skin(frame, camera, lesion_rng)
    image = _develop(skin, draw_lesion(dx, frame, lesion_rng))
    image = _hairs(image, photo_rng)
    image = _gel(image, photo_rng) if photo_rng.random() < camera.gel else image
    image = _ruler(image, photo_rng) if photo_rng.random() < camera.ruler else image
    return _expose(image, camera, photo_rng)


def _frame(rng: np.random.Generator, image_size: tuple[int, int]) -> Frame:
    """A framing: turned any way, zoomed by up to a third, the lesion somewhere about the middle."""
    width, height = image_size
    angle, zoom = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(-0.3, 0.3))
    shift = rng.normal(0, [0.13, 0.09])
    scale = zoom * height / 2
    x = (np.arange(width, dtype=np.float32)[None, :] - (width - 1) / 2) / scale - shift[0]
    y = (np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2) / scale - shift[1]
    c, s = np.cos(angle), np.sin(angle)

    def to_pixels(points: np.ndarray) -> np.ndarray:
        back_x, back_y = c * points[:, 0] - s * points[:, 1], s * points[:, 0] + c * points[:, 1]
        return np.stack(
            [(back_y + shift[1]) * scale + (height - 1) / 2, (back_x + shift[0]) * scale + (width - 1) / 2], 1
        )

    u, v = (c * x + s * y).astype(np.float32), (c * y - s * x).astype(np.float32)
    return Frame(u, v, to_pixels, float(scale))


def _skin(frame: Frame, camera: Camera, rng: np.random.Generator) -> Layers:
    """Uneven skin with fine lines, some of it freckled or flushed."""
    melanin, blood = rng.uniform(*camera.skin), rng.uniform(0.06, 0.26)
    relief = noise(frame, rng.uniform(0.06, 0.3), rng, fractal=True)
    flush = noise(frame, 0.9, rng, fractal=True)
    mottle = rng.uniform(0.01, 0.06)
    layers = Layers(melanin + mottle * relief, blood * (1.0 + 0.25 * flush))
    if rng.random() < 0.3:
        freckles = clods(frame, rng.uniform(0.2, 0.4), rng, radius=(0.08, 0.3), share=0.25, jitter=1.0)
        layers.melanin = layers.melanin + rng.uniform(0.1, 0.35) * freckles
    return layers


def _develop(skin: Layers, lesion: Layers) -> np.ndarray:
    """The light that comes back, float32 [H, W, 3] in [0, 1] (Beer-Lambert over a pale dermis)."""
    melanin = np.maximum(skin.melanin + lesion.melanin, 0.0)
    blood = np.maximum(skin.blood + lesion.blood, 0.0)
    blue = np.broadcast_to(np.float32(lesion.blue), melanin.shape)
    depth = np.stack([melanin, blood, blue], axis=-1).astype(np.float32) @ np.stack([_MELANIN, _BLOOD, _BLUE])
    white = np.clip(np.float32(lesion.white), 0.0, 0.9)[..., None]
    return (1.0 - white) * np.exp(-depth) * np.float32(0.95) + white * _WHITE


def _curve(rng: np.random.Generator, shape: tuple[int, int], length: float) -> np.ndarray:
    """[P, 2] pixel positions (row, column) along a slightly bent line of `length` picture heights."""
    height, width = shape
    start = rng.uniform([-0.1 * height, -0.1 * width], [1.1 * height, 1.1 * width])
    angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.6)
    t = np.linspace(0, 1, int(2 * length * height) + 2)
    heading = angle + bend * t
    steps = np.stack([np.sin(heading), np.cos(heading)], 1) * (length * height / len(t))
    return start + np.cumsum(steps, axis=0)


def _hairs(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """None on half of the photographs, a few on most others, many on some; dark or fair."""
    kind = rng.choice(3, p=[0.5, 0.38, 0.12])
    count = (0, rng.integers(1, 6), rng.integers(8, 22))[kind]
    shape = image.shape[:2]
    shadow = np.zeros(shape, np.float32)
    for _ in range(count):
        path = _curve(rng, shape, rng.uniform(0.25, 1.3))
        thickness = rng.uniform(0.7, 1.7) * shape[0] / 150
        shadow += stroke(path, np.full(len(path), thickness), shape)
    tone = np.float32(rng.uniform(0.05, 0.3) * np.array([1.0, 0.8, 0.65]))
    cover = np.minimum(shadow, 1.0)[..., None] * np.float32(rng.uniform(0.55, 0.95))
    return image * (1 - cover) + cover * tone


def _gel(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bubbles of air in the immersion fluid: bright rims, a darker inside, a glint."""
    height, width = image.shape[:2]
    image = image.copy()
    for _ in range(rng.integers(1, 9)):
        radius = height * rng.uniform(0.015, 0.1)
        row, column = rng.uniform(0, [height, width])
        top, left = max(0, int(row - 1.3 * radius)), max(0, int(column - 1.3 * radius))
        window = image[top : int(row + 1.3 * radius) + 1, left : int(column + 1.3 * radius) + 1]
        y = (np.arange(top, top + window.shape[0])[:, None] - row) / radius
        x = (np.arange(left, left + window.shape[1])[None, :] - column) / radius
        distance = np.hypot(x, y)
        rim = ramp(np.abs(distance - 1.0), 0.22, 0.02) * 0.45
        glint = ramp(np.hypot(x + 0.4, y + 0.4), 0.3, 0.1) * 0.6
        light = np.maximum(rim, glint)[..., None]
        inside = 1.0 - 0.08 * ramp(distance, 1.0, 0.8)[..., None]
        window[:] = window * inside * (1 - light) + light
    return image


def _ruler(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A scale along one border, a longer tick at every fifth."""
    height, width = image.shape[:2]
    image = image.copy()
    step, unit = rng.uniform(0.045, 0.08) * height, height / 150
    # A ruler on the long side runs along the columns, on the short side along the rows; views, so drawn in place.
    picture = image if rng.random() < 0.7 else image.transpose(1, 0, 2)
    picture = picture[::-1] if rng.random() < 0.5 else picture
    edge = int(rng.uniform(0.0, 0.08) * height)
    for tick, at in enumerate(np.arange(rng.uniform(0, step), picture.shape[1], step)):
        length = (9 if tick % 5 == 0 else 5) * unit
        mark = picture[edge : edge + int(length), int(at) : int(at + max(1.0, unit))]
        mark[:] = 0.25 * mark + 0.05
    return image


def _expose(image: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Light, lens, tone curve and sensor of `camera`: [H, W, 3] in [0, 1] -> uint8."""
    from scipy import ndimage

    height, width = image.shape[:2]
    softness = camera.softness * rng.uniform(0.7, 1.5) * height / 150
    image = ndimage.gaussian_filter(image, (softness, softness, 0), truncate=2.5)
    x = (np.arange(width, dtype=np.float32) - width * rng.uniform(0.42, 0.58)) / (0.62 * np.hypot(width, height))
    y = (np.arange(height, dtype=np.float32) - height * rng.uniform(0.42, 0.58)) / (0.62 * np.hypot(width, height))
    from_axis = x[None, :] ** 2 + y[:, None] ** 2
    light = rng.uniform(0.88, 1.1) * (1.0 - camera.vignette * rng.uniform(0.5, 1.5) * from_axis * 1.4)
    if rng.random() < camera.black_corners:
        edge = rng.uniform(0.42, 0.62)
        light = light * ramp(from_axis, 1.02 * edge, 0.92 * edge)
    gains = np.float32(camera.gains) * np.exp(rng.normal(0, 0.025, 3)).astype(np.float32)
    image = image * gains * light[..., None].astype(np.float32)
    grey = image.mean(-1, keepdims=True)
    image = grey + np.float32(camera.saturation * rng.uniform(0.92, 1.08)) * (image - grey)
    image = np.clip(image, 0.0, 1.0) ** np.float32(camera.gamma * rng.uniform(0.93, 1.07))
    image += np.float32(camera.grain) * rng.standard_normal((height, width, 1), dtype=np.float32)
    return (np.clip(image, 0.0, 1.0) * 255 + 0.5).astype(np.uint8)
