"""The seven kinds of phantom lesion: absorbing layers over a skin plane, told apart by shape and texture.

What is imitated, and where its description stands: the criteria of dermatoscopy (Argenziano 2003,
J Am Acad Dermatol 48:679), simplified to what survives a resize to 64 pixels. The random draws come from
the lesion's own generator, in a fixed order.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from bitkeras.data.phantom_fields import Frame, clods, network, noise, outline, patch, ramp, vessels

CLASS_NAMES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")


@dataclasses.dataclass
class Layers:
    """What lies in the skin, each float32 [H, W] or a number: three absorbers (optical depth) and a scatterer."""

    melanin: np.ndarray | float = 0.0
    blood: np.ndarray | float = 0.0
    blue: np.ndarray | float = 0.0
    white: np.ndarray | float = 0.0  # share of white in [0, 1]


def _tint(rng: np.random.Generator) -> tuple[float, float]:
    """(melanin, blood) of a lesion's ground, from one wide distribution for all classes but vasc.

    Shared, so that the mean colour says little about the class.
    """
    melanin = rng.gamma(3.0, 0.2) + 0.12
    blood = rng.gamma(1.2, 0.16)
    if rng.random() < 0.2:
        melanin, blood = 0.4 * melanin, blood + rng.uniform(0.15, 0.5)
    return float(min(melanin, 1.8)), float(min(blood, 1.0))


def _nevus(frame: Frame, rng: np.random.Generator) -> Layers:
    """Symmetric, one or two colours; an even network, even globules, or nothing."""
    melanin, blood = _tint(rng)
    distance, _ = outline(
        frame,
        rng,
        radius=rng.uniform(0.32, 0.75),
        lobes=rng.uniform(0.02, 0.11),
        ragged=rng.uniform(0.02, 0.1),
        aspect=rng.uniform(1.0, 1.6),
    )
    mask = ramp(distance, 1.0 + rng.uniform(0.05, 0.3), 0.8)
    pattern = rng.choice(3, p=[0.5, 0.25, 0.25])
    depth = rng.uniform(0.3, 0.9)
    if pattern == 0:
        texture = network(frame, rng.uniform(0.1, 0.15), rng, disorder=rng.uniform(0.08, 0.26))
        texture = 1.0 + depth * (texture - 0.45)
    elif pattern == 1:
        spots = clods(frame, rng.uniform(0.12, 0.17), rng, radius=(0.26, 0.36), share=0.95, jitter=0.3)
        texture = 0.75 + depth * spots
    else:
        texture = 1.0 + 0.12 * noise(frame, 0.3, rng)
    centre = 1.0 + rng.uniform(-0.3, 0.6) * ramp(distance, 0.9, 0.2)
    return Layers(mask * melanin * texture * centre, mask * blood)


def _melanoma(frame: Frame, rng: np.random.Generator) -> Layers:
    """Asymmetric in outline, colour and structure: broken network, blots, streaks, veil, regression."""
    melanin, blood = _tint(rng)
    # Some are hardly more than an atypical nevus.
    malignity = rng.uniform(0.3, 1.0)
    distance, angle = outline(
        frame,
        rng,
        radius=rng.uniform(0.4, 0.8),
        lobes=0.06 + 0.11 * malignity,
        ragged=0.05 + 0.09 * malignity,
        aspect=rng.uniform(1.0, 1.6),
    )
    mask = ramp(distance, rng.uniform(1.04, 1.2), 0.86)
    net = network(frame, rng.uniform(0.11, 0.19), rng, disorder=0.15 + 0.3 * malignity)
    patchy = ramp(noise(frame, 0.5, rng), -0.3, 0.7)
    parts = 1.0 + 0.55 * malignity * noise(frame, 0.6, rng)
    blots = clods(frame, rng.uniform(0.15, 0.25), rng, radius=(0.08, 0.46), share=0.5, jitter=1.0)
    texture = parts * (1.0 + 0.9 * patchy * (net - 0.45)) + 0.9 * malignity * blots * (1 - patchy)
    dark = patch(frame, rng, reach=rng.uniform(0.1, 0.4), radius=rng.uniform(0.12, 0.25))
    texture = np.maximum(texture, 0.1) + 0.8 * malignity * dark
    veil = patch(frame, rng, reach=rng.uniform(0.05, 0.35), radius=rng.uniform(0.15, 0.32)) * mask
    veil = veil * (malignity if rng.random() < 0.65 else 0.0)
    scar = patch(frame, rng, reach=rng.uniform(0.1, 0.45), radius=rng.uniform(0.1, 0.22)) * mask
    scar = scar * (0.6 * malignity if rng.random() < 0.4 else 0.0)
    rays = ramp(np.cos(angle * rng.integers(22, 36) + 1.5 * noise(frame, 0.3, rng)), 0.1, 0.9)
    sector = ramp(np.cos(angle - rng.uniform(0, 2 * np.pi)), rng.uniform(-0.6, 0.3), 0.7)
    rays = rays * sector * ramp(distance, 0.75, 0.95) * ramp(distance, 1.4, 1.1)
    rays = rays * (malignity if rng.random() < 0.55 else 0.0)
    return Layers(
        (mask * texture * (1 - 0.4 * veil) * (1 - scar) + 0.9 * rays) * melanin,
        mask * blood * (1.0 + 0.5 * malignity * noise(frame, 0.5, rng)).clip(0),
        0.9 * veil,
        0.3 * veil + 0.5 * scar,
    )


def _keratosis(frame: Frame, rng: np.random.Generator) -> Layers:
    """Benign keratosis: stuck-on sharp rim, ridges and furrows, milia-like cysts, comedo-like openings."""
    melanin, blood = _tint(rng)
    distance, _ = outline(
        frame,
        rng,
        radius=rng.uniform(0.38, 0.85),
        lobes=rng.uniform(0.03, 0.12),
        ragged=rng.uniform(0.03, 0.09),
        aspect=rng.uniform(1.0, 1.7),
    )
    mask = ramp(distance, 1.0 + rng.uniform(0.01, 0.16), 0.94)
    pattern = rng.choice(3, p=[0.45, 0.25, 0.3])
    texture, cysts = 1.0 + 0.25 * noise(frame, 0.25, rng, fractal=True), np.float32(0)
    if pattern < 2:
        # Level lines of noise: brain-like ridges where they are wide, a fingerprint where a drift aligns them.
        drift = 0.0 if pattern == 0 else rng.uniform(6.0, 9.0)
        direction = rng.uniform(0, np.pi)
        phase = rng.uniform(3.0, 4.5) * noise(frame, 0.45, rng) * (0.5 if drift else 1.0)
        phase = phase + 2 * np.pi * drift * (np.cos(direction) * frame.u + np.sin(direction) * frame.v)
        texture = texture * (0.75 + rng.uniform(0.4, 0.8) * ramp(np.cos(phase), -0.2, 0.8))
    if pattern != 1 or rng.random() < 0.4:
        cysts = clods(
            frame, rng.uniform(0.15, 0.22), rng, radius=(0.14, 0.26), share=rng.uniform(0.25, 0.6), jitter=1.0
        )
        plugs = clods(
            frame, rng.uniform(0.17, 0.26), rng, radius=(0.12, 0.26), share=rng.uniform(0.1, 0.45), jitter=1.0
        )
        texture = texture + 1.1 * plugs
    inside = mask * ramp(distance, 1.0, 0.9)
    return Layers(
        mask * melanin * texture, mask * blood, mask * rng.uniform(0, 0.15), rng.uniform(0.4, 0.7) * cysts * inside
    )


def _carcinoma(frame: Frame, rng: np.random.Generator) -> Layers:
    """Basal cell carcinoma: branching vessels, leaf-like areas at the rim, ovoid nests, sometimes an ulcer."""
    melanin, blood = _tint(rng)
    radius = rng.uniform(0.4, 0.75)
    distance, angle = outline(
        frame,
        rng,
        radius=radius,
        lobes=rng.uniform(0.05, 0.15),
        ragged=rng.uniform(0.06, 0.16),
        aspect=rng.uniform(1, 1.6),
    )
    mask = ramp(distance, 1.0 + rng.uniform(0.05, 0.35), 0.7)
    tree = vessels(frame, rng, trees=rng.integers(2, 5), reach=1.05 * radius, thickness=rng.uniform(0.018, 0.036))
    tree = tree * (rng.uniform(0.7, 1.5) if rng.random() < 0.85 else 0.0)
    leaves = clods(frame, rng.uniform(0.2, 0.32), rng, radius=(0.2, 0.45), share=rng.uniform(0.4, 0.8), jitter=0.8)
    fingers = ramp(np.cos(angle * rng.integers(8, 13) + 1.2 * noise(frame, 0.3, rng)), -0.3, 0.5)
    leaves = leaves * fingers * ramp(distance, 0.35, 0.7) * ramp(distance, 1.2, 1.0)
    leaves = leaves * (rng.uniform(0.5, 1.1) if rng.random() < 0.65 else 0.1)
    ulcer = patch(frame, rng, reach=rng.uniform(0, 0.2), radius=rng.uniform(0.07, 0.16))
    ulcer = ulcer * (0.8 if rng.random() < 0.3 else 0.0)
    ground = 1.0 + 0.25 * noise(frame, 0.35, rng)
    return Layers(
        mask * 0.55 * melanin * ground + leaves * 0.7 * (0.4 + melanin) + 0.6 * ulcer,
        mask * (0.1 + 0.8 * blood) + tree + ulcer,
        0.55 * leaves,
        mask * rng.uniform(0.05, 0.25),
    )


def _actinic(frame: Frame, rng: np.random.Generator) -> Layers:
    """Actinic keratosis and Bowen: red pseudo-network around pale follicles (strawberry), scales, vague rim."""
    melanin, blood = _tint(rng)
    distance, _ = outline(
        frame,
        rng,
        radius=rng.uniform(0.45, 0.9),
        lobes=rng.uniform(0.06, 0.18),
        ragged=rng.uniform(0.12, 0.25),
        aspect=rng.uniform(1.0, 1.7),
    )
    mask = ramp(distance, 1.0 + rng.uniform(0.15, 0.45), 0.55)
    spacing = rng.uniform(0.13, 0.2)
    follicles = clods(frame, spacing, rng, radius=(0.26, 0.38), share=0.85, jitter=0.5)
    meshes = rng.uniform(0.4, 0.95)
    scales = ramp(noise(frame, 0.22, rng, fractal=True), rng.uniform(0.7, 1.3), 1.9) * rng.uniform(0.4, 0.9)
    ground = (1.0 + 0.25 * noise(frame, 0.3, rng, fractal=True)) * (1.15 - meshes * follicles)
    return Layers(
        mask * 0.75 * melanin * ground,
        mask * (0.15 + blood) * ground,
        0.0,
        mask * (0.22 * meshes * follicles + scales),
    )


def _vascular(frame: Frame, rng: np.random.Generator) -> Layers:
    """Angioma: round red to black lacunae apart from each other, pale septa between, sharp rim."""
    melanin, _ = _tint(rng)
    distance, _ = outline(
        frame,
        rng,
        radius=rng.uniform(0.25, 0.65),
        lobes=rng.uniform(0.02, 0.1),
        ragged=rng.uniform(0.02, 0.07),
        aspect=rng.uniform(1.0, 1.5),
    )
    mask = ramp(distance, 1.0 + rng.uniform(0.03, 0.15), 0.92)
    lacunae = clods(frame, rng.uniform(0.17, 0.28), rng, radius=(0.36, 0.5), share=0.92, jitter=0.7)
    if rng.random() < 0.2:  # one lake
        lacunae = np.maximum(lacunae, 0.8 * ramp(distance, 0.95, 0.75))
    depth = rng.uniform(0.5, 1.4)
    thrombus = (rng.uniform(0.2, 1.2) if rng.random() < 0.4 else 0.0) * ramp(noise(frame, 0.4, rng), -0.5, 0.8)
    ground = rng.uniform(0.15, 0.4)
    return Layers(
        mask * (0.3 * melanin + lacunae * thrombus),
        mask * depth * (ground + lacunae),
        mask * lacunae * (rng.uniform(0.0, 0.35) + 0.5 * thrombus),
        mask * rng.uniform(0.1, 0.35) * (1 - lacunae),
    )


def _fibroma(frame: Frame, rng: np.random.Generator) -> Layers:
    """Dermatofibroma: white scar-like centre, delicate network fading outwards."""
    melanin, blood = _tint(rng)
    distance, _ = outline(
        frame,
        rng,
        radius=rng.uniform(0.4, 0.7),
        lobes=rng.uniform(0.02, 0.1),
        ragged=rng.uniform(0.04, 0.12),
        aspect=rng.uniform(1.0, 1.35),
    )
    mask = ramp(distance, 1.0 + rng.uniform(0.2, 0.5), 0.5)
    centre = ramp(distance, rng.uniform(0.45, 0.7), 0.18)
    lines = network(frame, rng.uniform(0.14, 0.2), rng, disorder=0.5)
    centre = centre * (1.0 if rng.random() < 0.6 else (1.0 - 0.8 * lines))
    net = network(frame, rng.uniform(0.08, 0.12), rng, disorder=rng.uniform(0.08, 0.25))
    texture = 1.0 + rng.uniform(0.25, 0.75) * (net - 0.45)
    strength = rng.uniform(0.45, 0.8)
    return Layers(
        mask * 0.8 * melanin * texture * (1 - 0.9 * centre),
        mask * (0.08 + blood) * (1 - 0.5 * centre),
        0.0,
        strength * centre * mask,
    )


_LESIONS = {
    "akiec": _actinic,
    "bcc": _carcinoma,
    "bkl": _keratosis,
    "df": _fibroma,
    "mel": _melanoma,
    "nv": _nevus,
    "vasc": _vascular,
}


def draw_lesion(dx: str, frame: Frame, rng: np.random.Generator) -> Layers:
    """The layers of one lesion of class `dx` over the pixels of `frame`; `rng` is the lesion's own."""
    layers = _LESIONS[dx](frame, rng)
    # Pigment is never even: without this the lattices look printed.
    grain = 1.0 + np.float32(rng.uniform(0.12, 0.3)) * noise(frame, 0.3, rng, fractal=True)
    layers.melanin = layers.melanin * np.clip(grain, 0.3, 1.8)
    return layers
