"""BYOL (arXiv 2006.07733) in plain float64 NumPy, on a one-layer encoder; `weights` are dicts of arrays.

Equation 2 is `L = || q(z)/|q(z)| - z'/|z'| ||^2`, the loss its sum with the two views exchanged, the update of the
target `xi <- tau xi + (1 - tau) theta`, and `tau = 1 - (1 - tau_base) (cos(pi k/K) + 1)/2`.
"""

import math

import numpy as np
from reference.simsiam_reference import batch_norm, relu


def mlp(weights, name, x):
    hidden = batch_norm(x @ weights[f"{name}.fc1"], weights[f"{name}.bn1.gamma"], weights[f"{name}.bn1.beta"])
    return relu(hidden) @ weights[f"{name}.fc2"]


def projections(weights, views):
    return mlp(weights, "projector", views.reshape(len(views), -1) @ weights["encoder"])


def loss(online, target, views_a, views_b):
    total = 0.0
    for views, other_views in ((views_a, views_b), (views_b, views_a)):
        predictions = mlp(online, "predictor", projections(online, views))
        targets = projections(target, other_views)
        for prediction, aim in zip(predictions, targets):
            difference = prediction / np.sqrt(prediction @ prediction) - aim / np.sqrt(aim @ aim)
            total += difference @ difference / len(views)
    return total


def tau(step, num_steps, base):
    return 1 - (1 - base) * (math.cos(math.pi * step / num_steps) + 1) / 2


def moved(target, online, tau):
    return {name: tau * target[name] + (1 - tau) * online[name] for name in target}
