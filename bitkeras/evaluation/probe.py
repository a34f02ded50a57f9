"""A linear layer on frozen features, trained with focal loss: the paper's measure of an encoder."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from bitkeras.evaluation.metrics import METRICS


@dataclasses.dataclass(frozen=True)
class ProbeResult:
    """Linear classifiers of T trials, for raw features: logits = features @ kernel + bias.

    Attributes:
      kernels: float32 [T, D, K].
      biases: float32 [T, K].
      val_scores: [T], validation balanced accuracy of exactly these weights.
      best_trial: index of the highest of `val_scores`.
      best_epochs: [T], the epoch (counted from 1) each trial's weights are from.
      lr: the rate chosen from the grid, one for all trials.
      val_history: [T, epochs], validation balanced accuracy after each epoch at that rate.
      temperatures: [T], folded into the weights by calibration; None: they are as they were trained.
    """

    kernels: np.ndarray
    biases: np.ndarray
    val_scores: np.ndarray
    best_trial: int
    best_epochs: np.ndarray
    lr: float
    val_history: np.ndarray
    temperatures: np.ndarray | None = None


def focal_loss(
    labels: tf.Tensor, logits: tf.Tensor, *, gamma: float, class_weights: np.ndarray | None = None
) -> tf.Tensor:
    """Softmax focal loss, -a_y (1 - p_y)^gamma log p_y with p = softmax(logits) (Lin et al. 2017, section 3).

    Args:
      labels: int [..., B].
      logits: float32 [..., B, K].
      gamma: 0 is cross-entropy; larger values leave out examples that are already right.
      class_weights: [K], the paper's alpha; None is 1 for every class.

    Returns:
      float32 [..., B], one loss per example.
    """
    labels_one_hot = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    log_p = tf.reduce_sum(tf.nn.log_softmax(logits) * labels_one_hot, axis=-1)
    # exp(gamma log(1 - p)) of a floored 1 - p: tf.pow has a NaN gradient at p = 1 for gamma = 0.
    modulation = tf.exp(gamma * tf.math.log(tf.maximum(-tf.math.expm1(log_p), 1e-12)))
    alpha = 1.0 if class_weights is None else tf.gather(tf.cast(class_weights, logits.dtype), labels)
    return -alpha * modulation * log_p


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
    lr_grid: tuple[float, ...] = (3e-4, 1e-3, 3e-3),
    weight_decay: float = 0.0,
    class_weights: np.ndarray | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> ProbeResult:
    """Train `trials` linear layers and keep each at its epoch of best validation balanced accuracy.

    Features are standardised by the training mean and deviation, so that one grid of rates serves encoders of any
    scale; the returned weights have that folded in. All trials and rates are trained side by side by AdamW with a
    cosine schedule; the rate with the best mean validation score over trials is kept for all of them. The
    validation scores are those a maximum was taken of, so they flatter: report the test part.

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
      weight_decay: decoupled, multiplied by the rate.
      class_weights: [K], alpha of the focal loss; None is 1 for every class, as in the paper.
      seed: of initialisation and order.
      progress: called after each epoch with (epochs done, epochs).

    Returns:
      The kept weights and what is known about them.
    """
    mean, inverse_std = _standardisation(train_features)
    layers = _Layers(train_features.shape[1], num_classes, np.tile(np.float32(lr_grid), trials), trials, seed)
    loss_settings = {"gamma": focal_gamma, "class_weights": class_weights}
    train = ((train_features - mean) * inverse_std).astype(np.float32), np.asarray(train_labels, np.int32)
    val = ((val_features - mean) * inverse_std).astype(np.float32), np.asarray(val_labels, np.int32)
    best, history = _fit(layers, train, val, epochs, batch_size, weight_decay, loss_settings, seed, progress)
    return _choose(best, history, trials, lr_grid, mean, inverse_std, val_features, val_labels)


def _standardisation(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and 1 / deviation [D] in float64; 0 for a feature that does not vary, which is then left out."""
    mean, std = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    varies = std > 1e-6 * max(std.max(), np.finfo(np.float32).tiny)
    return mean, np.where(varies, 1 / np.where(varies, std, 1), 0.0)


class _Layers:
    """R = trials x rates linear layers with AdamW (Loshchilov and Hutter 2019) each, as stacked variables."""

    def __init__(self, num_features: int, num_classes: int, rates: np.ndarray, trials: int, seed: int):
        per_trial = len(rates) // trials
        # The same start and order for every rate of a trial: the grid then compares rates and nothing else.
        self.trial_of_run = np.repeat(np.arange(trials), per_trial)
        starts = [np.random.default_rng([seed, t]).normal(0, 0.01, [num_features, num_classes]) for t in range(trials)]
        self.kernels = tf.Variable(np.float32(starts)[self.trial_of_run])
        self.biases = tf.Variable(tf.zeros([len(rates), 1, num_classes]))
        self.rates = tf.constant(rates[:, None, None])
        self.slots = [(tf.Variable(tf.zeros_like(v)), tf.Variable(tf.zeros_like(v))) for v in self.variables]
        self.step = tf.Variable(0.0)

    @property
    def variables(self) -> list[tf.Variable]:
        return [self.kernels, self.biases]

    def logits(self, features: tf.Tensor) -> tf.Tensor:
        """[R, B, D] or [N, D] -> [R, B, K]."""
        return features @ self.kernels + self.biases

    def update(self, gradients: list[tf.Tensor], schedule: tf.Tensor, weight_decay: float) -> None:
        self.step.assign_add(1.0)
        for variable, gradient, (first, second) in zip(self.variables, gradients, self.slots):
            first.assign_add(0.1 * (gradient - first))
            second.assign_add(0.001 * (tf.square(gradient) - second))
            unbiased = first / (1 - 0.9**self.step), second / (1 - 0.999**self.step)
            direction = unbiased[0] / (tf.sqrt(unbiased[1]) + 1e-8)
            decay = weight_decay * variable if variable is self.kernels else 0.0
            variable.assign_sub(self.rates * schedule * (direction + decay))


def _fit(layers, train, val, epochs, batch_size, weight_decay, loss_settings, seed, progress):
    """Train `layers`; returns (best kernels [R, D, K], best biases [R, K]) and val scores [R, epochs]."""
    features, labels = tf.constant(train[0]), tf.constant(train[1])
    val = tuple(map(tf.constant, val))
    val_one_hot = tf.one_hot(val[1], layers.biases.shape[-1])
    support = tf.reduce_sum(val_one_hot, axis=0)

    @tf.function
    def run_epoch(order, schedule):
        """One pass in `order`, int32 [R, N]; returns validation balanced accuracy, [R]."""
        for start in tf.range(0, tf.shape(order)[1], batch_size):
            rows = order[:, start : start + batch_size]
            with tf.GradientTape() as tape:
                losses = focal_loss(tf.gather(labels, rows), layers.logits(tf.gather(features, rows)), **loss_settings)
                # Mean over a run's batch, sum over runs: each run gets the gradient it would get on its own.
                loss = tf.reduce_sum(tf.reduce_mean(losses, axis=1))
            layers.update(tape.gradient(loss, layers.variables), schedule, weight_decay)
        right = tf.cast(tf.argmax(layers.logits(val[0]), -1, tf.int32) == val[1], tf.float32)
        recalls = tf.math.divide_no_nan(right @ val_one_hot, support)
        return tf.reduce_sum(recalls, axis=1) / tf.reduce_sum(tf.cast(support > 0, tf.float32))

    best_scores, history = np.full(len(layers.trial_of_run), -1.0), []
    best = [np.zeros(v.shape, np.float32) for v in layers.variables]
    generators = [np.random.default_rng([seed, t, 1]) for t in range(layers.trial_of_run[-1] + 1)]
    for epoch in range(epochs):
        orders = np.int32([generator.permutation(len(train[1])) for generator in generators])
        schedule = tf.constant(0.5 * (1 + np.cos(np.pi * epoch / epochs)), tf.float32)
        history.append(run_epoch(tf.constant(orders[layers.trial_of_run]), schedule).numpy())
        better = history[-1] > best_scores
        best_scores = np.where(better, history[-1], best_scores)
        for kept, variable in zip(best, layers.variables):
            kept[better] = variable.numpy()[better]
        if progress is not None:
            progress(epoch + 1, epochs)
    return (best[0], best[1][:, 0]), np.stack(history, axis=1)


def _choose(best, history, trials, lr_grid, mean, inverse_std, val_features, val_labels) -> ProbeResult:
    """Pick one rate for all trials, fold the standardisation in, and score what comes out."""
    history = history.reshape(trials, len(lr_grid), -1)
    rate = int(history.max(axis=2).mean(axis=0).argmax())
    runs = np.arange(trials) * len(lr_grid) + rate
    # Folded in float64: kernel / std and mean * kernel / std may differ by many orders of magnitude.
    kernels = best[0][runs].astype(np.float64) * inverse_std[:, None]
    biases = best[1][runs] - mean @ kernels
    kernels, biases = kernels.astype(np.float32), biases.astype(np.float32)
    predictions = probe_probabilities(val_features, kernels, biases).argmax(axis=-1)
    val_scores = np.array([METRICS["balanced_accuracy"](val_labels, trial) for trial in predictions])
    return ProbeResult(
        kernels=kernels,
        biases=biases,
        val_scores=val_scores,
        best_trial=int(val_scores.argmax()),
        best_epochs=history[:, rate].argmax(axis=1) + 1,
        lr=float(lr_grid[rate]),
        val_history=history[:, rate],
    )
