"""The only train_step. A method states what a pair of views costs and nothing else."""

from __future__ import annotations

import tensorflow as tf


class Trainer(tf.keras.Model):
    """Minimises `batch_loss`, which a subclass writes; what it tracks as an attribute is trained.

    Args:
      weight_decay: L2 penalty added to the gradient of every trainable variable (`grad += weight_decay * w`), biases
        and norms included, as PyTorch's SGD does. Keras's own `weight_decay` works outside momentum and
        learning rate sums, and is about ten times weaker here.
    """

    def __init__(self, *, weight_decay: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.weight_decay = weight_decay

    def batch_loss(self, batch: dict[str, tf.Tensor], *, training: bool) -> tf.Tensor:
        """Mean cost of this replica's batch, float32 scalar."""
        raise NotImplementedError

    def gradient_scale(self, variable: tf.Variable) -> tf.Tensor | float:
        """Factor on the gradient of `variable`; 1 unless a method treats some variables differently."""
        return 1.0

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One optimizer step; returns the loss averaged over the epoch so far."""
        variables = self.trainable_variables
        with tf.GradientTape() as tape:
            loss = self.batch_loss(batch, training=True)
            scaled_loss = self._scale(loss)
        gradients = self._unscale(tape.gradient(scaled_loss, variables))
        self.optimizer.apply_gradients(zip([self._decayed(g, v) for g, v in zip(gradients, variables)], variables))
        return self._record(loss)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The loss with the running BN statistics; nothing moves."""
        return self._record(self.batch_loss(batch, training=False))

    def _decayed(self, gradient, variable):
        # Replicas are summed, so each one brings its share of the penalty, as it does of the loss.
        penalty = self.weight_decay / self.distribute_strategy.num_replicas_in_sync * variable
        return (gradient + penalty) * self.gradient_scale(variable)

    def _scale(self, loss):
        """Loss of this replica -> what is differentiated: replicas are summed, float16 needs a loss scale."""
        loss /= self.distribute_strategy.num_replicas_in_sync
        return self.optimizer.get_scaled_loss(loss) if self._has_loss_scale else loss

    def _unscale(self, gradients):
        return self.optimizer.get_unscaled_gradients(gradients) if self._has_loss_scale else gradients

    @property
    def _has_loss_scale(self) -> bool:
        # `compile` wraps the optimizer in a LossScaleOptimizer under mixed_float16.
        return isinstance(self.optimizer, tf.keras.mixed_precision.LossScaleOptimizer)

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """The running mean of the loss, reset by `fit` at the start of an epoch."""
        if not hasattr(self, "_loss_mean"):
            self._loss_mean = tf.keras.metrics.Mean(name="loss")
        return [self._loss_mean]

    def _record(self, loss):
        self._loss_mean.update_state(loss)
        return {"loss": self._loss_mean.result()}


class ViewTrainer(Trainer):
    """Trains on pairs of views of the same images.

    A batch is a dict that holds `views_a` and `views_b`, float32 [B, H, W, 3] in [-1, 1].
    """

    def batch_loss(self, batch: dict[str, tf.Tensor], *, training: bool) -> tf.Tensor:
        """The cost of the batch's pairs."""
        return self.view_loss(batch["views_a"], batch["views_b"], training=training)

    def view_loss(self, views_a: tf.Tensor, views_b: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Mean cost of the pairs in this replica's batch, float32 scalar."""
        raise NotImplementedError
