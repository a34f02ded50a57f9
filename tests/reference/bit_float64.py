"""The formula of the BiT authors' PyTorch model in float64: the exact answer, to seven digits, for the golden inputs.

Needs PyTorch, which is no dependency of the project, so the tests read its output from `bit_float64.npz`:

    python bit_float64.py R101x1 224 bit_float64.npz
"""

import sys

import numpy as np
import torch
import torch.nn.functional as F
from bit_random_weights import UNITS, golden_input, random_weights


def features(name: str, image_size: int) -> np.ndarray:
    """Pooled features, float64 [2, 2048], of `golden_input(image_size)`."""
    weights = {key: torch.tensor(value, dtype=torch.float64) for key, value in random_weights(name).items()}

    def conv(x, prefix, stride=1, padding=0):
        kernel = weights[prefix + "standardized_conv2d/kernel"].permute(3, 2, 0, 1)
        variance, mean = torch.var_mean(kernel, dim=[1, 2, 3], keepdim=True, unbiased=False)
        return F.conv2d(x, (kernel - mean) / torch.sqrt(variance + 1e-10), stride=stride, padding=padding)

    def norm(x, prefix):
        gamma, beta = (weights[prefix + "group_norm/" + key] for key in ("gamma", "beta"))
        return F.relu(F.group_norm(x, 32, gamma, beta, 1e-5))

    x = torch.tensor(golden_input(image_size), dtype=torch.float64).permute(0, 3, 1, 2)
    x = F.max_pool2d(F.pad(conv(x, "resnet/root_block/", 2, 3), (1, 1, 1, 1)), 3, 2)
    for block, num_units in enumerate(UNITS[name.split("x")[0]], start=1):
        for unit in range(1, num_units + 1):
            prefix = f"resnet/block{block}/unit{unit:02d}/"
            stride = 2 if unit == 1 and block > 1 else 1
            h = norm(x, prefix + "a/")
            shortcut = conv(h, prefix + "a/proj/", stride) if unit == 1 else x
            h = norm(conv(h, prefix + "a/"), prefix + "b/")
            h = norm(conv(h, prefix + "b/", stride, 1), prefix + "c/")
            x = shortcut + conv(h, prefix + "c/")
    return norm(x, "resnet/").mean(dim=(2, 3)).numpy()


if __name__ == "__main__":
    np.savez_compressed(
        sys.argv[3], **{f"{sys.argv[1]}/{sys.argv[2]}/features": features(sys.argv[1], int(sys.argv[2]))}
    )
