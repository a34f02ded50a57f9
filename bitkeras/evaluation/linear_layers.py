"""Many linear layers on the same features, trained side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf


class LinearLayers:
    """T trials x G settings of linear layers with AdamW (Loshchilov and Hutter 2019) each, as one matrix a trial.

    The settings of a trial share its start and its order of examples: the grid then compares settings and nothing
    else, and a batch is gathered once and multiplied once for all of them.

    Args:
      num_features, num_classes: D, K.
      grid: (rate, weight decay) of each of the G settings.
      trials: T.
      seed: of start and order.
    """

    def __init__(
        self, num_features: int, num_classes: int, grid: Sequence[tuple[float, float]], *, trials: int, seed: int
    ):
        self.shape = (trials, len(grid), num_classes)
        starts = [np.random.default_rng([seed, t]).normal(0, 0.01, [num_features, num_classes]) for t in range(trials)]
        self.kernels = tf.Variable(np.tile(np.float32(starts), [1, 1, len(grid)]))
        self.biases = tf.Variable(tf.zeros([trials, 1, len(grid) * num_classes]))
        # One value a column, [G * K].
        self.rates, self.decays = np.repeat(np.float32(grid), num_classes, axis=0).T
        self.slots = [(tf.Variable(tf.zeros_like(v)), tf.Variable(tf.zeros_like(v))) for v in self.variables]
        self.step = tf.Variable(0.0)
        self.generators = [np.random.default_rng([seed, t, 1]) for t in range(trials)]

    @property
    def variables(self) -> list[tf.Variable]:
        """Kernels [T, D, G * K] and biases [T, 1, G * K]."""
        return [self.kernels, self.biases]

    def orders(self, num_examples: int) -> np.ndarray:
        """int32 [T, N]: the next epoch's order of examples for each trial."""
        return np.int32([generator.permutation(num_examples) for generator in self.generators])

    def logits(self, features: tf.Tensor) -> tf.Tensor:
        """[T, B, D] or [B, D] -> [T, B, G, K]."""
        trials, num_settings, num_classes = self.shape
        return tf.reshape(features @ self.kernels + self.biases, [trials, -1, num_settings, num_classes])

    def update(self, gradients: list[tf.Tensor], schedule: tf.Tensor) -> None:
        """One step of AdamW for every layer, at its rate times `schedule`."""
        self.step.assign_add(1.0)
        for variable, gradient, (first, second) in zip(self.variables, gradients, self.slots):
            first.assign_add(0.1 * (gradient - first))
            second.assign_add(0.001 * (tf.square(gradient) - second))
            unbiased = first / (1 - 0.9**self.step), second / (1 - 0.999**self.step)
            direction = unbiased[0] / (tf.sqrt(unbiased[1]) + 1e-8)
            decay = self.decays * variable if variable is self.kernels else 0.0
            variable.assign_sub(self.rates * schedule * (direction + decay))

    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Copies: kernels [T, G, D, K] and biases [T, G, K]."""
        trials, num_settings, num_classes = self.shape
        kernels = self.kernels.numpy().reshape(trials, -1, num_settings, num_classes)
        return kernels.swapaxes(1, 2), self.biases.numpy().reshape(self.shape)


def fit(
    layers: LinearLayers,
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    *,
    epochs: int,
    batch_size: int,
    loss: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trains `layers`, each of which is kept as it was after its epoch of best validation balanced accuracy.

    Args:
      layers: as they start.
      train, val: (features float32 [N, D], labels int32 [N]).
      epochs: passes over `train`, under a cosine schedule.
      batch_size: examples per step; the last batch of an epoch may be smaller.
      loss: (labels [...], logits [..., K]) -> losses [...].
      progress: called after each epoch with (epochs done, epochs).

    Returns:
      Kernels float32 [T, G, D, K], biases float32 [T, G, K], and validation balanced accuracy [T, G, epochs].
    """
    run_epoch, history = _epoch(layers, train, val, batch_size, loss), []
    best, best_scores = layers.weights(), np.full(layers.shape[:2], -1.0)
    for epoch in range(epochs):
        schedule = tf.constant(0.5 * (1 + np.cos(np.pi * epoch / epochs)), tf.float32)
        history.append(run_epoch(tf.constant(layers.orders(len(train[1]))), schedule).numpy())
        better = history[-1] > best_scores
        best_scores = np.where(better, history[-1], best_scores)
        for kept, now in zip(best, layers.weights()):
            kept[better] = now[better]
        if progress is not None:
            progress(epoch + 1, epochs)
    return (*best, np.stack(history, axis=-1))


def _epoch(layers, train, val, batch_size, loss) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
    """(order int32 [T, N], schedule) -> validation balanced accuracy [T, G] after one pass in that order."""
    features, labels = tf.constant(train[0]), tf.constant(train[1])
    val = tuple(map(tf.constant, val))
    num_settings, num_classes = layers.shape[1:]
    val_one_hot = tf.one_hot(val[1], num_classes)
    support = tf.reduce_sum(val_one_hot, axis=0)

    @tf.function
    def run_epoch(order, schedule):
        for start in tf.range(0, tf.shape(order)[1], batch_size):
            rows = order[:, start : start + batch_size]
            batch_labels = tf.repeat(tf.gather(labels, rows)[..., None], num_settings, axis=2)
            with tf.GradientTape() as tape:
                losses = loss(batch_labels, layers.logits(tf.gather(features, rows)))
                # Mean over the batch, sum over layers: each gets the gradient it would get on its own.
                total = tf.reduce_sum(tf.reduce_mean(losses, axis=1))
            layers.update(tape.gradient(total, layers.variables), schedule)
        right = tf.cast(tf.argmax(layers.logits(val[0]), -1, tf.int32) == val[1][:, None], tf.float32)
        recalls = tf.math.divide_no_nan(tf.einsum("tmg,mk->tgk", right, val_one_hot), support)
        return tf.reduce_sum(recalls, axis=-1) / tf.reduce_sum(tf.cast(support > 0, tf.float32))

    return run_epoch
