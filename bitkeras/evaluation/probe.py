"""A linear layer on frozen features, trained with focal loss: the paper's measure of an encoder."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from bitkeras.evaluation.focal import focal_loss
from bitkeras.evaluation.linear_layers import LinearLayers, fit
from bitkeras.evaluation.metrics import METRICS

# On HAM10000's features neither end of the two is chosen by the paper's loss (docs/results/probe.md).
LR_GRID = (3e-4, 1e-3, 3e-3, 1e-2)
WEIGHT_DECAY_GRID = (0.0, 0.1, 1.0, 10.0)


@dataclasses.dataclass(frozen=True)
class ProbeResult:
    """Linear classifiers of T trials, for raw features: logits = features @ kernel + bias.

    Attributes:
      kernels: float32 [T, D, K].
      biases: float32 [T, K].
      val_scores: [T], validation balanced accuracy of exactly these weights.
      best_trial: index of the highest of `val_scores`.
      best_epochs: [T], the epoch (counted from 1) each trial's weights are from.
      lr, weight_decay: chosen from the grids, one pair for all trials.
      grid_edges: a sentence for each of the two that lies at the end of its grid, where a better one may lie beyond.
      val_history: [T, epochs], validation balanced accuracy after each epoch with that pair.
      temperatures: [T], folded into the weights by calibration; None: they are as they were trained.
    """

    kernels: np.ndarray
    biases: np.ndarray
    val_scores: np.ndarray
    best_trial: int
    best_epochs: np.ndarray
    lr: float
    weight_decay: float
    grid_edges: tuple[str, ...]
    val_history: np.ndarray
    temperatures: np.ndarray | None = None


def probe_probabilities(features: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Softmax of `features @ kernel + bias`.

    Args:
      features: float32 [N, D], as the encoder gives them.
      kernel: [D, K], or [T, D, K] for all trials at once.
      bias: [K], or [T, K].

    Returns:
      float32 [N, K], or [T, N, K].
    """
    logits = features @ kernel + bias[..., None, :]
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)


def train_linear_probe(
    train_features: np.ndarray,
    train_labels: np.ndarray,
    val_features: np.ndarray,
    val_labels: np.ndarray,
    *,
    num_classes: int,
    trials: int = 3,
    focal_gamma: float = 4.0,
    epochs: int = 100,
    batch_size: int = 128,
    lr_grid: tuple[float, ...] = LR_GRID,
    weight_decay_grid: tuple[float, ...] = WEIGHT_DECAY_GRID,
    class_weights: np.ndarray | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ProbeResult:
    """Train `trials` linear layers and keep each at its epoch of best validation balanced accuracy.

    Features are standardised by the training mean and deviation, so that one grid of rates serves encoders of any
    scale; the returned weights have that folded in. Every trial is trained with every pair of rate and weight decay,
    side by side, by AdamW with a cosine schedule; the pair with the best mean validation score over trials is kept for
    all of them, of equally good ones the first. The validation scores are those a maximum was taken of, so they
    flatter: report the test part. One rate and one weight decay leave nothing to choose but the epoch, as in the paper.

    Args:
      train_features: float32 [N, D].
      train_labels: int [N] in [0, K); a class may be absent.
      val_features: float32 [M, D].
      val_labels: int [M]; classes absent here do not count.
      num_classes: K.
      trials: repetitions, each with an initialisation and an order of its own.
      focal_gamma: of the softmax focal loss; 4 in the paper.
      epochs: passes over the training features.
      batch_size: examples per step; the last batch of an epoch may be smaller.
      lr_grid: peak rates to choose from.
      weight_decay_grid: decays to choose from: decoupled, multiplied by the rate, and not of the bias.
      class_weights: [K], alpha of the focal loss; None is 1 for every class, as in the paper.
      seed: of initialisation and order.
      progress: called after each epoch with (epochs done, epochs).

    Returns:
      The kept weights and what is known about them.
    """
    mean, inverse_std = _standardisation(train_features)
    grid = list(itertools.product(lr_grid, weight_decay_grid))
    layers = LinearLayers(train_features.shape[1], num_classes, grid, trials=trials, seed=seed)
    kernels, biases, history = fit(
        layers,
        (((train_features - mean) * inverse_std).astype(np.float32), np.asarray(train_labels, np.int32)),
        (((val_features - mean) * inverse_std).astype(np.float32), np.asarray(val_labels, np.int32)),
        epochs=epochs,
        batch_size=batch_size,
        loss=functools.partial(focal_loss, gamma=focal_gamma, class_weights=class_weights),
        progress=progress,
    )
    scores = history.max(axis=2).mean(axis=0)
    best = int(scores.argmax())
    # Folded in float64: kernel / std and mean * kernel / std may differ by many orders of magnitude.
    kernels = kernels[:, best].astype(np.float64) * inverse_std[:, None]
    biases = (biases[:, best] - mean @ kernels).astype(np.float32)
    kernels = kernels.astype(np.float32)
    predictions = probe_probabilities(val_features, kernels, biases).argmax(axis=-1)
    val_scores = np.array([METRICS["balanced_accuracy"](val_labels, trial) for trial in predictions])
    lr, weight_decay = map(float, grid[best])
    return ProbeResult(
        kernels=kernels,
        biases=biases,
        val_scores=val_scores,
        best_trial=int(val_scores.argmax()),
        best_epochs=history[:, best].argmax(axis=1) + 1,
        lr=lr,
        weight_decay=weight_decay,
        grid_edges=grid_edges(grid, scores),
        val_history=history[:, best],
    )


def _standardisation(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and 1 / deviation [D] in float64; 0 for a feature that does not vary, which is then left out."""
    mean, std = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    varies = std > 1e-6 * max(std.max(), np.finfo(np.float32).tiny)
    return mean, np.where(varies, 1 / np.where(varies, std, 1), 0.0)


def grid_edges(grid: Sequence[tuple[float, float]], scores: np.ndarray) -> tuple[str, ...]:
    """The sentences of `ProbeResult.grid_edges`.

    Args:
      grid: N pairs of a rate and a weight decay.
      scores: [N], of each pair on validation.
    """
    edges = []
    for what, values in zip(("rate", "weight decay"), np.transpose(grid)):
        chosen = values[scores.argmax()]
        # Not where another value does as well: then nothing points beyond.
        if scores[values != chosen].max(initial=-np.inf) == scores.max() or (values == chosen).all():
            continue
        if chosen == values.max():
            edges.append(f"the best {what}, {chosen:g}, is the largest of the grid")
        # Below no decay there is nothing.
        elif 0 < chosen == values.min():
            edges.append(f"the best {what}, {chosen:g}, is the smallest of the grid")
    return tuple(edges)
