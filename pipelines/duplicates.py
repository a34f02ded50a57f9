"""Near-duplicates of the test images among those that a model is made of, by the features of a shipped network."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from bitkeras.backbones import build_backbone
from bitkeras.backbones.pretrained import fill, read_pretrained
from bitkeras.backbones.stages import stage_layers
from bitkeras.data import ImageSource
from bitkeras.data.batches import image_batches
from bitkeras.data.leakage import shares_of_test
from bitkeras.data.splits import Split
from bitkeras.evaluation.duplicates import NEAR, Nearest, Whitening, find_nearest, fit_whitening
from bitkeras.evaluation.features import encode
from bitkeras.precision import precision_policy

# Its third stage, whitened, tells copies from strangers best (docs/results/leakage.md); an image takes a millisecond.
NETWORK, STAGE, IMAGE_SIZE = "bit-m-mini", "block3", 64
# Images whose features are held at once, beside those of the test part.
BLOCK = 4096
# To whiten by: more make no difference.
SAMPLE = 1024
MAX_PAIRS = 100


def find_duplicates(
    source: ImageSource,
    split: Split,
    parts: Sequence[str],
    pretrained_on: tuple[ImageSource, np.ndarray] | None = None,
) -> dict:
    """Test images that look the same as an image of `parts`; two photographs of one lesion are not compared.

    Args:
      source: labelled images.
      split: their parts; the test part holds images.
      parts: what the model is made of.
      pretrained_on: (source, indices) of other images that it was pre-trained on.

    Returns:
      As `shares_of_test`; network and cosine, by which they were found; num_pairs, and the nearest `MAX_PAIRS` as pairs
      of test_image, other_image (places), part, cosine, classes (of both).
    """
    nearest = _nearest(source, split, [part for part in parts if len(split.indices(part))], pretrained_on)
    sources = {part: source for part in nearest}
    if pretrained_on:
        sources["pretrain"] = pretrained_on[0]
    pairs = [row for part, near in nearest.items() for row in _pairs(source, split, part, near, sources[part])]
    pairs.sort(key=lambda row: -row["cosine"])
    shares = shares_of_test({part: near.is_near for part, near in nearest.items()}, split, source)
    return {**shares, "network": NETWORK, "cosine": NEAR, "num_pairs": len(pairs), "pairs": pairs[:MAX_PAIRS]}


def _nearest(source: ImageSource, split: Split, parts: list[str], pretrained_on) -> dict[str, Nearest]:
    """Part -> the nearest image in it of every test image that is no sister of it."""
    network, test = _build_network(), split.indices("test")
    features = _encode(network, source, test)
    whitening = fit_whitening(_sample(network, source, split, parts, features))
    queries, known = whitening(features), {}
    if source.groups is not None:
        # Numbers, since comparing millions of names would take longer than the features.
        lesions = np.unique(source.groups, return_inverse=True)[1]
        known = {"query_groups": lesions[test], "bank_groups": lesions}
    banks = {part: _blocks(network, whitening, source, split.indices(part)) for part in parts}
    nearest = {part: find_nearest(queries, bank, **known) for part, bank in banks.items()}
    if pretrained_on:
        nearest["pretrain"] = find_nearest(queries, _blocks(network, whitening, *pretrained_on))
    return nearest


@functools.lru_cache(maxsize=1)
def _build_network() -> tf.keras.Model:
    """Images [B, 64, 64, 3] in [-1, 1] to float32 features, in float32 whatever the policy is."""
    pretrained = read_pretrained(NETWORK)
    with precision_policy("float32"):
        network = build_backbone(pretrained.backbone, norm=pretrained.norm, stem=pretrained.stem)
        fill(network, pretrained)
        stage = network.get_layer(stage_layers(network)[STAGE]).output
        return tf.keras.Model(network.input, tf.keras.layers.GlobalAveragePooling2D()(stage))


def _encode(network: tf.keras.Model, source: ImageSource, indices: np.ndarray) -> np.ndarray:
    return encode(network, image_batches(source, indices, image_size=IMAGE_SIZE, batch_size=64))


def _blocks(
    network: tf.keras.Model, whitening: Whitening, source: ImageSource, indices: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(indices), BLOCK):
        block = indices[start : start + BLOCK]
        yield block, whitening(_encode(network, source, block))


def _sample(network: tf.keras.Model, source: ImageSource, split: Split, parts, features: np.ndarray) -> np.ndarray:
    """Features to whiten by: those of the test part, which is drawn as the others are, and more where it is small."""
    others = np.concatenate([split.indices(part) for part in parts] or [np.empty(0, np.int64)])
    missing = min(SAMPLE - len(features), len(others))
    if missing <= 0:
        return features
    chosen = others[np.linspace(0, len(others) - 1, missing).astype(np.int64)]
    return np.concatenate([features, _encode(network, source, chosen)])


def _pairs(source: ImageSource, split: Split, part: str, nearest: Nearest, other_source: ImageSource) -> list[dict]:
    """What to look at: a row for each test image with a near-duplicate in `part`, which is of `other_source`."""
    test = split.indices("test")
    rows = []
    for row in np.flatnonzero(nearest.is_near):
        image, other = test[row], nearest.index[row]
        rows.append(
            {
                "test_image": source.location(image),
                "other_image": other_source.location(other),
                "part": part,
                "cosine": round(float(nearest.cosine[row]), 4),
                "classes": [_class_of(source, image), _class_of(other_source, other)],
            }
        )
    return rows


def _class_of(source: ImageSource, image: int) -> str | None:
    return None if source.labels is None else source.class_names[source.labels[image]]
