"""Seeded random BiT checkpoints under the official .npz names, for parity tests.

Every tensor is drawn from a generator seeded by its own name, so anyone gets the
same checkpoint without a download. Kernels are HWIO, as in the released files.

    python bit_random_weights.py R50x1 out.npz
"""

import sys
import zlib

import numpy as np

UNITS = {"R50": (3, 4, 6, 3), "R101": (3, 4, 23, 3), "R152": (3, 8, 36, 3)}


def tensor_shapes(name: str, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Official tensor names -> shapes, for a model name such as 'R50x1'."""
    depth, width = name.split("x")
    stem = 64 * int(width)
    shapes = {"resnet/root_block/standardized_conv2d/kernel": (7, 7, 3, stem)}
    cin = stem
    for b, units in enumerate(UNITS[depth]):
        mid, cout = stem * 2**b, 4 * stem * 2**b
        for u in range(1, units + 1):
            p = f"resnet/block{b + 1}/unit{u:02d}/"
            shapes[p + "a/group_norm/gamma"] = shapes[p + "a/group_norm/beta"] = (cin,)
            shapes[p + "a/standardized_conv2d/kernel"] = (1, 1, cin, mid)
            if u == 1:
                shapes[p + "a/proj/standardized_conv2d/kernel"] = (1, 1, cin, cout)
            shapes[p + "b/group_norm/gamma"] = shapes[p + "b/group_norm/beta"] = (mid,)
            shapes[p + "b/standardized_conv2d/kernel"] = (3, 3, mid, mid)
            shapes[p + "c/group_norm/gamma"] = shapes[p + "c/group_norm/beta"] = (mid,)
            shapes[p + "c/standardized_conv2d/kernel"] = (1, 1, mid, cout)
            cin = cout
    shapes["resnet/group_norm/gamma"] = shapes["resnet/group_norm/beta"] = (cin,)
    shapes["resnet/head/conv2d/kernel"] = (1, 1, cin, num_classes)
    shapes["resnet/head/conv2d/bias"] = (num_classes,)
    return shapes


def random_weights(name: str, num_classes: int = 1000) -> dict[str, np.ndarray]:
    weights = {}
    for key, shape in tensor_shapes(name, num_classes).items():
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        value = rng.standard_normal(shape, dtype=np.float32)
        if key.endswith("gamma"):
            value = 1.0 + 0.1 * value
        elif key.endswith(("beta", "bias")):
            value = 0.1 * value
        elif "head" in key:
            value = 0.01 * value
        weights[key] = value.astype(np.float32)
    return weights


def golden_input(size: int, batch: int = 2) -> np.ndarray:
    """Images, [batch, size, size, 3] float32 in [-1, 1]."""
    rng = np.random.default_rng(size)
    return rng.uniform(-1.0, 1.0, (batch, size, size, 3)).astype(np.float32)


if __name__ == "__main__":
    np.savez(sys.argv[2], **random_weights(sys.argv[1]))
