"""The only train_step. A method states what a pair of views costs and nothing else."""

from __future__ import annotations

import tensorflow as tf

from bitkeras.methods.average import Average


class Trainer(tf.keras.Model):
    """Minimises `batch_loss`, which a subclass writes; what it tracks as an attribute is trained.

    Args:
      weight_decay: L2 penalty added to the gradient of every trainable variable (`grad += weight_decay * w`), biases
        and norms included, as PyTorch's SGD does. Keras's own `weight_decay` works outside momentum and
        learning rate sums, and is about ten times weaker here.
    """

    # (images, *, training) -> what the trained network returns, in its place: the same in less memory.
    forward = None

    def __init__(self, *, weight_decay: float = 0.0, **kwargs):
        super().__init__(**kwargs)
        self.weight_decay = weight_decay
        self.loss_mean = tf.keras.metrics.Mean(name="loss")
        self.finite_steps = FiniteSteps(name="finite_steps")
        self._keeps_metrics = False
        # A metric's result is that of all replicas already; Keras's own choice adds them up over several machines.
        self.distribute_reduction_method = "first"

    def batch_loss(self, batch: dict[str, tf.Tensor], *, training: bool) -> tf.Tensor:
        """Mean cost of this replica's batch, float32 scalar."""
        raise NotImplementedError

    def gradient_scale(self, variable: tf.Variable) -> tf.Tensor | float:
        """Factor on the gradient of `variable`; 1 unless a method treats some variables differently."""
        return 1.0

    def after_step(self) -> None:
        """What a method does after the optimizer's step, in replica context; nothing here."""
        # AutoGraph takes the docstring away and stumbles over a body of nothing.
        return None

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One optimizer step; returns the loss averaged over the epoch so far."""
        variables = self.trainable_variables
        with tf.GradientTape() as tape:
            loss = self.batch_loss(batch, training=True)
            scaled_loss = self._scale(loss)
        gradients = self._unscale(tape.gradient(scaled_loss, variables))
        self.optimizer.apply_gradients(zip([self._decayed(g, v) for g, v in zip(gradients, variables)], variables))
        self.after_step()
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
        """The running mean of the loss and the count of finite ones, reset by `fit` at the start of an epoch."""
        return [self.loss_mean, self.finite_steps]

    def keep_metrics_once(self) -> None:
        """The next `fit` goes on within an epoch, so its first epoch keeps the means there are."""
        self._keeps_metrics = True

    def reset_metrics(self):
        """Called by `fit` at the start of each epoch."""
        if not self._keeps_metrics:
            super().reset_metrics()
        self._keeps_metrics = False

    def _record(self, loss):
        self.loss_mean.update_state(loss)
        self.finite_steps.update_state(loss)
        return {"loss": self.loss_mean.result()}


class FiniteSteps(tf.keras.metrics.Metric):
    """How many steps passed before the first one whose loss was NaN or infinite, counted where the loss is."""

    def __init__(self, **kwargs):
        super().__init__(dtype=tf.int64, **kwargs)
        self.steps = self.add_weight("steps", initializer="zeros", dtype=tf.int64)
        self.bad_steps = self.add_weight("bad_steps", initializer="zeros", dtype=tf.int64)
        self.num_replicas = tf.distribute.get_strategy().num_replicas_in_sync

    def update_state(self, loss):
        """Takes the loss of one replica's step."""
        self.bad_steps.assign_add(tf.cast(~tf.math.is_finite(loss), tf.int64))
        self.steps.assign_add(tf.cast(self.bad_steps.read_value() == 0, tf.int64))

    def result(self):
        """The count. Replicas are summed, and one that is bad spoils the others no later than in the next step."""
        return self.steps // self.num_replicas


class ViewTrainer(Trainer):
    """Trains on pairs of views of the same images.

    A batch is a dict that holds `views_a` and `views_b`, float32 [B, H, W, 3] in [-1, 1]. A method sets the attributes
    `encoder`, views -> features [B, D], and `projector`, features -> projections [B, E]; `predictor` where it has one.
    With `finish_views`, the second of a policy's `halves`, it may hold `images` instead, of which views are made on the
    device that trains.
    """

    finish_views = None

    # No such default for `predictor`: Keras does not track a model that is set over an attribute of the class.
    predictor_scale = None

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # An average of the encoder that follows it.
        self.average = None

    def keep_average(self, decay: float) -> None:
        """From now on `average` follows the encoder by `decay` a step; before the first step."""
        self.average = Average(self.encoder, decay)

    def after_step(self) -> None:
        """Takes the step into the average, where there is one."""
        if self.average is not None:
            tf.distribute.get_replica_context().merge_call(self._follow)

    def _follow(self, strategy):
        self.average.follow(self.encoder, strategy)

    def features(self, views: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Views, [B, H, W, 3] -> features [B, D]."""
        # `training` is passed on by hand: a sub-model called without it runs BN in inference mode.
        return (self.forward or self.encoder)(views, training=training)

    def projections(self, views: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Views of one kind, [B, H, W, 3] -> [B, E] in the compute dtype."""
        # Each view on its own: one pass over both would mix the BN statistics of the two.
        return self.projector(self.features(views, training=training), training=training)

    def gradient_scale(self, variable: tf.Variable) -> tf.Tensor | float:
        """`predictor_scale` for the predictor's variables: Keras has no rates for groups of variables."""
        if self.predictor_scale is None or not any(variable is own for own in self.predictor.trainable_variables):
            return 1.0
        return self.predictor_scale(self.optimizer.iterations)

    def batch_loss(self, batch: dict[str, tf.Tensor], *, training: bool) -> tf.Tensor:
        """The cost of the batch's pairs."""
        return self.view_loss(*self.views(batch), training=training)

    def views(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Both views of a batch, float32 [B, H, W, 3] each."""
        if "images" not in batch:
            return batch["views_a"], batch["views_b"]
        views_a, views_b = tf.unstack(self.finish_views(batch["images"], num_views=2))
        return views_a, views_b

    def view_loss(self, views_a: tf.Tensor, views_b: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Mean cost of the pairs in this replica's batch, float32 scalar."""
        raise NotImplementedError
