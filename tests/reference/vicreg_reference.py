"""VICReg (arXiv 2105.04906) in plain float64 NumPy, on a one-layer encoder.

Term by term as in main_vicreg.py of the released code: a mean squared difference; `mean(relu(1 - sqrt(var + 0.0001)))`
with the unbiased variance, half of it from each view; the off-diagonal squares of the covariance matrix over the
dimension, from both views; 25, 25 and 1 times these.
"""

import math

from reference.simsiam_reference import batch_norm, relu


def projections(weights, views):
    x = views.reshape(len(views), -1) @ weights["encoder"]
    for layer in ("1", "2"):
        x = x @ weights[f"projector.fc{layer}"]
        x = relu(batch_norm(x, weights[f"projector.bn{layer}.gamma"], weights[f"projector.bn{layer}.beta"]))
    return x @ weights["projector.fc3"]


def covariance(z, j, k):
    """Of dimensions j and k, unbiased."""
    mean_j, mean_k = (sum(z[i, d] for i in range(len(z))) / len(z) for d in (j, k))
    return sum((z[i, j] - mean_j) * (z[i, k] - mean_k) for i in range(len(z))) / (len(z) - 1)


def invariance_term(z_a, z_b):
    return ((z_a - z_b) ** 2).mean()


def variance_term(z):
    return sum(max(0.0, 1.0 - math.sqrt(covariance(z, j, j) + 0.0001)) for j in range(z.shape[1])) / z.shape[1]


def covariance_term(z):
    dimensions = range(z.shape[1])
    return sum(covariance(z, j, k) ** 2 for j in dimensions for k in dimensions if j != k) / z.shape[1]


def vicreg(z_a, z_b):
    variance = variance_term(z_a) / 2 + variance_term(z_b) / 2
    return 25 * invariance_term(z_a, z_b) + 25 * variance + covariance_term(z_a) + covariance_term(z_b)


def loss(weights, views_a, views_b):
    return vicreg(projections(weights, views_a), projections(weights, views_b))
