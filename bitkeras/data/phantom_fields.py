"""Seeded structures over the pixels of one photograph of a phantom: noise, outlines, networks, clods, vessels.

Every field is a function of the skin coordinates, and the number of random draws behind it never depends
on the pixels: a second photograph of the lesion, in another frame, meets the same structures.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Callable

import numpy as np

_TILE_SIZE = 512
_TILE_WAVELENGTH = 64.0


@dataclasses.dataclass(frozen=True)
class Frame:
    """Where the pixels of one photograph lie in the plane of the skin.

    Attributes:
      u, v: float32 [H, W], skin coordinates; the lesion is centred on (0, 0) and about 0.5 in radius.
      to_pixels: maps float [P, 2] skin coordinates (u, v) to float [P, 2] pixel coordinates (row, column).
      pixels_per_unit: length of one skin unit in pixels.
    """

    u: np.ndarray
    v: np.ndarray
    to_pixels: Callable[[np.ndarray], np.ndarray]
    pixels_per_unit: float


@functools.cache
def _noise_tile(fractal: bool) -> np.ndarray:
    """float32 [512 * 512], periodic noise of mean 0 and variance 1, the same in every process."""
    frequency = np.fft.fftfreq(_TILE_SIZE) * _TILE_WAVELENGTH
    radius = np.hypot(frequency[:, None], frequency[None, :])
    gain = (0.25 + radius) ** -1.8 if fractal else np.exp(-(((radius - 0.9) / 0.45) ** 2))
    gain[0, 0] = 0.0
    white = np.random.default_rng(20180814).standard_normal((_TILE_SIZE, _TILE_SIZE))
    tile = np.fft.ifft2(np.fft.fft2(white) * gain).real
    return np.ascontiguousarray(tile / tile.std(), np.float32).ravel()


def noise(frame: Frame, wavelength: float, rng: np.random.Generator, *, fractal: bool = False) -> np.ndarray:
    """float32 [H, W], unit variance, structures of about `wavelength` skin units (fractal: that and finer)."""
    # One tile, turned and shifted: a fresh tile for each field would cost more than the whole photograph.
    angle, row, column = rng.uniform(0, [2 * np.pi, _TILE_SIZE, _TILE_SIZE])
    c, s = np.float32([np.cos(angle), np.sin(angle)]) * np.float32(_TILE_WAVELENGTH / wavelength)
    rows = (c * frame.u - s * frame.v + np.float32(row + 8192)).astype(np.int32) & (_TILE_SIZE - 1)
    columns = (s * frame.u + c * frame.v + np.float32(column + 8192)).astype(np.int32) & (_TILE_SIZE - 1)
    return _noise_tile(fractal)[rows * _TILE_SIZE + columns]


def ramp(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Smooth step from 0 at `low` to 1 at `high`; `low` > `high` falls instead."""
    t = np.clip((x - np.float32(low)) * np.float32(1.0 / (high - low)), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def warped(frame: Frame, amount: float, wavelength: float, rng: np.random.Generator) -> Frame:
    """`frame` with its coordinates displaced by noise of `amount` skin units."""
    u = frame.u + np.float32(amount) * noise(frame, wavelength, rng)
    v = frame.v + np.float32(amount) * noise(frame, wavelength, rng)
    return dataclasses.replace(frame, u=u, v=v)


def outline(frame: Frame, rng: np.random.Generator, *, radius: float, lobes: float, ragged: float, aspect: float):
    """Distance from the centre in units of the outline, float32 [H, W] (1 on the border), and the angle."""
    axis = rng.uniform(0, np.pi)
    along = np.cos(axis) * frame.u + np.sin(axis) * frame.v
    across = (np.cos(axis) * frame.v - np.sin(axis) * frame.u) * aspect
    angle = np.arctan2(across, along).astype(np.float32)
    order = np.arange(2, 7)
    amplitude = lobes * rng.normal(size=5) / order**0.7
    phase = rng.uniform(0, 2 * np.pi, 5)
    grid = np.linspace(-np.pi, np.pi, 513)[:, None]
    border = radius * np.clip(1.0 + (amplitude * np.cos(order * grid + phase)).sum(1), 0.45, 1.7)
    border = border.astype(np.float32)[((angle + np.pi) * (512 / (2 * np.pi))).astype(np.int32)]
    distance = np.sqrt(along * along + across * across) / border
    return (distance + ragged * noise(frame, 0.22, rng, fractal=True)).astype(np.float32), angle


def network(frame: Frame, period: float, rng: np.random.Generator, *, disorder: float) -> np.ndarray:
    """Pigment network in [0, 1]: dark lines around pale holes on a hexagonal lattice, bent by `disorder`."""
    bent = warped(frame, disorder * period, 3.0 * period, rng)
    total = np.float32(0)
    for angle in rng.uniform(0, np.pi) + np.arange(3) * np.pi / 3:
        k = 2 * np.pi / (period * 0.866)
        total = total + np.cos(np.float32(k * np.cos(angle)) * bent.u + np.float32(k * np.sin(angle)) * bent.v)
    return ramp(total, 1.2, -0.9)


def clods(frame: Frame, spacing: float, rng: np.random.Generator, *, radius, share: float, jitter: float = 0.5):
    """Round spots in [0, 1], at most one a cell of `spacing`.

    `radius` is (least, greatest) in cells, `share` the part of the cells that hold one.
    """
    table = rng.random((4, 32, 32), dtype=np.float32)
    # Bent so that the cells do not line up in rows.
    bent = warped(frame, 0.12 * spacing, 2.5 * spacing, rng)
    angle = rng.uniform(0, np.pi)
    c, s = np.float32([np.cos(angle), np.sin(angle)]) / np.float32(spacing)
    x, y = c * bent.u - s * bent.v + 512.25, s * bent.u + c * bent.v + 512.25
    row, column = x.astype(np.int32), y.astype(np.int32)
    cell = (row & 31) * 32 + (column & 31)
    dx, dy, size, present = (part.ravel() for part in table)
    reach = np.where(present < share, radius[0] + (radius[1] - radius[0]) * size**1.5, -1.0).astype(np.float32)
    free = np.clip(0.5 - reach, 0.0, 0.5) * (2 * jitter)
    x = x - row - (0.5 + (dx - 0.5) * free)[cell]
    y = y - column - (0.5 + (dy - 0.5) * free)[cell]
    return ramp(np.sqrt(x * x + y * y) - reach[cell], 0.06, -0.08)


def patch(frame: Frame, rng: np.random.Generator, *, reach: float, radius: float) -> np.ndarray:
    """One soft blot in [0, 1] of about `radius`, its centre `reach` from the lesion's."""
    angle = rng.uniform(0, 2 * np.pi)
    bent = warped(frame, 0.25 * radius, 1.2 * radius, rng)
    distance = np.hypot(bent.u - np.float32(reach * np.cos(angle)), bent.v - np.float32(reach * np.sin(angle)))
    return ramp(distance, 1.3 * radius, 0.5 * radius)


def splat(points: np.ndarray, weights: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Weights [P] spread over the four pixels around each of points [P, 2] (row, column): float32 `shape`."""
    height, width = shape
    inside = (points >= 0).all(1) & (points[:, 0] < height - 1) & (points[:, 1] < width - 1)
    points, weights = points[inside], weights[inside]
    corner = points.astype(np.int64)
    fraction = points - corner
    total = np.zeros(height * width)
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = np.abs(1 - row - fraction[:, 0]) * np.abs(1 - column - fraction[:, 1])
        index = (corner[:, 0] + row) * width + corner[:, 1] + column
        total += np.bincount(index, weights=weights * share, minlength=height * width)
    return total.reshape(shape).astype(np.float32)


def stroke(pixels: np.ndarray, thickness: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A thick curve: [P, 2] pixel positions a half pixel or less apart, [P] thickness in pixels -> [0, 1]."""
    tangent = np.gradient(pixels, axis=0)
    length = np.hypot(tangent[:, 0], tangent[:, 1]) + 1e-6
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], 1) / length[:, None]
    offsets = np.linspace(-0.5, 0.5, int(np.ceil(2 * thickness.max()))) if thickness.max() > 1 else np.zeros(1)
    spread = pixels[None] + offsets[:, None, None] * np.maximum(thickness - 1, 0)[None, :, None] * normal[None]
    weights = np.broadcast_to(
        np.minimum(thickness, 1) * length / max(1.0, len(offsets) / thickness.mean()), spread.shape[:2]
    )
    return splat(spread.reshape(-1, 2), weights.ravel(), shape)


def _branches(rng: np.random.Generator, start, heading: float, length: float, thickness: float, depth: int):
    """A tree of vessels: a list of ([P, 2] skin coordinates, thickness in skin units)."""
    steps = 24
    turns = heading + np.cumsum(rng.normal(0, 0.16, steps))
    path = start + np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1) * (length / steps), axis=0)
    found = [(path, thickness)]
    for fork in rng.integers(6, steps, 2 if depth else 0):
        side = rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.1)
        found += _branches(rng, path[fork], turns[fork] + side, 0.7 * length, 0.65 * thickness, depth - 1)
    return found


def vessels(frame: Frame, rng: np.random.Generator, *, trees: int, reach: float, thickness: float) -> np.ndarray:
    """Arborising vessels in [0, 1]: `trees` trees that grow from the rim at `reach` inwards."""
    total = np.zeros(frame.u.shape, np.float32)
    for angle in rng.uniform(0, 2 * np.pi, trees):
        start = reach * np.array([np.cos(angle), np.sin(angle)])
        for path, width in _branches(rng, start, angle + np.pi + rng.normal(0, 0.4), 1.1 * reach, thickness, 2):
            pixels = frame.to_pixels(path)
            length = np.hypot(*np.diff(pixels, axis=0).T).sum()
            at = np.linspace(0, len(pixels) - 1, max(2, int(2 * length)))
            fine = np.stack([np.interp(at, np.arange(len(pixels)), pixels[:, axis]) for axis in (0, 1)], 1)
            wide = np.linspace(1.0, 0.6, len(fine)) * width * frame.pixels_per_unit
            total += stroke(fine, wide, frame.u.shape)
    return np.minimum(total, 1.0)
