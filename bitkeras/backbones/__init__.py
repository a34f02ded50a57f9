"""BACKBONES and `build_backbone`: images, float32 [B, H, W, 3] in [-1, 1] -> features, float32 [B, D]."""

from __future__ import annotations

import tensorflow as tf

from bitkeras.backbones.bit_resnet import NORMS, NUM_UNITS, STEMS, Architecture, build_bit_resnet
from bitkeras.errors import UserError

__all__ = ["BACKBONES", "NORMS", "STEMS", "build_backbone"]


def _table(*names: str) -> dict[str, Architecture]:
    architectures = {}
    for name in names:
        depth, width = name[1:].split("x")
        architectures[name] = Architecture(NUM_UNITS[int(depth)], float(width))
    return architectures


# The released sizes, then small ones for laptops, with 8 (x0.25) or 16 (x0.5) GN groups instead of 32.
BACKBONES = _table(
    *("R50x1", "R50x3", "R101x1", "R101x3", "R152x2", "R152x4"),
    *("R50x0.25", "R50x0.5", "R26x1", "R26x0.5", "R26x0.25", "R14x0.25"),
)


def build_backbone(name: str, **kwargs) -> tf.keras.Model:
    """The network `name` of `BACKBONES`; keyword arguments as in `bit_resnet.build_bit_resnet`.

    Raises:
      UserError: for a name that is not in the table.
    """
    if name not in BACKBONES:
        raise UserError(f"There is no backbone {name!r}; pass one of {', '.join(BACKBONES)}.")
    return build_bit_resnet(BACKBONES[name], name=name, **kwargs)
