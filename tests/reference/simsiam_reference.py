"""SimSiam's pseudo-code (arXiv 2011.10566, algorithm 1) in plain float64 NumPy, on a one-layer encoder.

`L = D(p1, z2) / 2 + D(p2, z1) / 2` with `D(p, z) = -(normalize(p) * normalize(z.detach())).sum(dim=1).mean()`.
"""

import numpy as np

EPSILON = 1e-5


def batch_norm(x, gamma=1.0, beta=0.0):
    return gamma * (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0) + EPSILON) + beta


def relu(x):
    return np.maximum(x, 0.0)


def projections(weights, views):
    """Flattened views through encoder and projector; `weights` is a dict of float64 arrays."""
    x = views.reshape(len(views), -1) @ weights["encoder"]
    for layer in ("1", "2"):
        x = relu(batch_norm(x @ weights["f" + layer], weights["gamma" + layer], weights["beta" + layer]))
    return batch_norm(x @ weights["f3"])


def predictions(weights, z):
    hidden = relu(batch_norm(z @ weights["h1"], weights["gamma_h"], weights["beta_h"]))
    return hidden @ weights["h2"] + weights["bias_h"]


def distance(p, z):
    p = p / np.linalg.norm(p, axis=1, keepdims=True)
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    return -(p * z).sum(axis=1).mean()


def loss(weights, views_a, views_b, targets=None):
    """The loss; `targets` = (z1, z2) held fixed, as detach() does, or None to take those of `weights`."""
    z1, z2 = projections(weights, views_a), projections(weights, views_b)
    t1, t2 = (z1, z2) if targets is None else targets
    return distance(predictions(weights, z1), t2) / 2 + distance(predictions(weights, z2), t1) / 2


def gradient(weights, views_a, views_b, key, step=1e-6):
    """Central differences of the loss with detached targets, for the array `weights[key]`."""
    targets = projections(weights, views_a), projections(weights, views_b)
    result = np.zeros_like(weights[key])
    for index in np.ndindex(*result.shape):
        ends = []
        for sign in (1, -1):
            moved = weights[key].copy()
            moved[index] += sign * step
            ends.append(loss({**weights, key: moved}, views_a, views_b, targets))
        result[index] = (ends[0] - ends[1]) / (2 * step)
    return result
