"""SimCLR's algorithm 1 (arXiv 2002.05709) in plain float64 NumPy, on a one-layer encoder.

`l(i, j) = -log( exp(s_ij / tau) / sum over k != i of exp(s_ik / tau) )` with cosines `s`, and `L = 1/(2N) sum over k of
[l(2k-1, 2k) + l(2k, 2k-1)]`, the views of one image behind each other.
"""

import math

import numpy as np
from reference.simsiam_reference import batch_norm, relu


def projections(weights, views):
    x = views.reshape(len(views), -1) @ weights["encoder"]
    x = relu(batch_norm(x @ weights["projector.fc1"], weights["projector.bn1.gamma"], weights["projector.bn1.beta"]))
    return batch_norm(x @ weights["projector.fc2"], weights["projector.bn2.gamma"])


def nt_xent(projections_a, projections_b, temperature):
    z = [vector for pair in zip(projections_a, projections_b) for vector in pair]
    s = [[u @ v / math.sqrt((u @ u) * (v @ v)) for v in z] for u in z]

    def cost(i, j):
        others = [math.exp(s[i][k] / temperature) for k in range(len(z)) if k != i]
        return -math.log(math.exp(s[i][j] / temperature) / sum(others))

    return sum(cost(k, k + 1) + cost(k + 1, k) for k in range(0, len(z), 2)) / len(z)


def loss(weights, views_a, views_b, temperature):
    return nt_xent(projections(weights, views_a), projections(weights, views_b), temperature)


def log_chance(num_images):
    """The loss where all views look the same."""
    return np.log(2 * num_images - 1)
