"""BYOL (Grill et al. 2020, arXiv 2006.07733)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import tensorflow as tf

from bitkeras.errors import UserError
from bitkeras.methods.heads import byol_mlp
from bitkeras.methods.objectives import negative_cosine
from bitkeras.methods.trainer import ViewTrainer


class BYOL(ViewTrainer):
    """Predicts what a slow copy of the network, the target, makes of the other view.

    An encoder with group norm is fine: "replacing BN with a batch-independent normalization scheme (namely, a
    combination of group normalization and weight standardization) achieves performance comparable to vanilla BYOL"
    (arXiv 2010.10241). Projector and predictor keep their published BN whatever the encoder has, so batch statistics
    are out of what is kept of the network, not out of training; `head_norm` takes them out of that too.

    Args:
      encoder: views, float32 [B, H, W, 3] -> features, float32 [B, D]; a functional model.
      num_steps: K, the optimizer's steps in the whole of training.
      num_projections: E, the length of projections and predictions.
      num_hidden, num_predictor_hidden: width of the hidden layer of projector and predictor.
      base_tau: how much of the target stays in the first step; the published 0.996 is for 1000 epochs of ImageNet.
      predictor_scale: as in `SimSiam`.
      head_norm: one of `heads.HEAD_NORMS`; batch as published.
      weight_decay: as in `ViewTrainer`.

    Raises:
      UserError: base_tau is no share.
    """

    def __init__(
        self,
        encoder: tf.keras.Model,
        *,
        num_steps: int,
        num_projections: int = 256,
        num_hidden: int = 4096,
        num_predictor_hidden: int = 4096,
        base_tau: float = 0.996,
        predictor_scale: Callable[[tf.Tensor], tf.Tensor] | None = None,
        head_norm: str = "batch",
        weight_decay: float = 5e-4,
    ):
        if not 0 <= base_tau <= 1:
            raise UserError(f"--base_tau is {base_tau:g}; pass the share of the target that stays, from 0 to 1.")
        super().__init__(weight_decay=weight_decay, name="byol")
        self.encoder = encoder
        sizes = {"num_outputs": num_projections, "num_hidden": num_hidden, "norm": head_norm}
        self.projector = byol_mlp(encoder.output_shape[-1], **sizes, name="projector")
        sizes = {"num_outputs": num_projections, "num_hidden": num_predictor_hidden, "norm": head_norm}
        self.predictor = byol_mlp(num_projections, **sizes, name="predictor")
        self.predictor_scale = predictor_scale
        self.target = Target(self.encoder, self.projector)
        self.num_steps, self.base_tau = num_steps, base_tau

    def view_loss(self, views_a: tf.Tensor, views_b: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Equation 2 and its mirror image, `|q(z_a) - z'_b|^2 + |q(z_b) - z'_a|^2` of unit vectors, in [0, 8]."""
        predictions_a = self.predictor(self.projections(views_a, training=training), training=training)
        predictions_b = self.predictor(self.projections(views_b, training=training), training=training)
        targets_a = self.target.projections(views_a, training=training)
        targets_b = self.target.projections(views_b, training=training)
        # |p - t|^2 = 2 - 2 cos.
        return 4.0 + 2.0 * (negative_cosine(predictions_a, targets_b) + negative_cosine(predictions_b, targets_a))

    def after_step(self) -> None:
        """Moves the target: "after each training step we perform the following update" (section 3.1, equation 1)."""
        super().after_step()
        tf.distribute.get_replica_context().merge_call(self._move_target)

    def _move_target(self, strategy):
        # The optimizer has counted its step already, except where a loss scale left it out.
        rate = following_rate(self.optimizer.iterations - 1, num_steps=self.num_steps, base_tau=self.base_tau)
        self.target.follow(self.encoder, self.projector, rate, strategy)


def following_rate(step: tf.Tensor, *, num_steps: int, base_tau: float) -> tf.Tensor:
    """1 - tau, by how much the target nears the online network after `step`, counted from 0 -> float32 scalar.

    "tau = 1 - (1 - tau_base) (cos(pi k/K) + 1)/2 with k the current training step and K the maximum number of training
    steps" (section 3.3).
    """
    share = tf.clip_by_value(tf.cast(step, tf.float32) / num_steps, 0.0, 1.0)
    return (1.0 - base_tau) * (tf.cos(math.pi * share) + 1.0) / 2.0


class Target(tf.keras.layers.Layer):
    """Copies of encoder and projector that follow them and are not trained.

    In training they normalise by the statistics of the batch and keep running ones of their own, as in the released
    code (byol_experiment.py: `is_training=True` for both networks, `target_state`); only weights are averaged.

    Args:
      encoder, projector: functional models, which the copies equal at first.
    """

    def __init__(self, encoder: tf.keras.Model, projector: tf.keras.Model):
        super().__init__(name="target")
        self.encoder, self.projector = copied(encoder), copied(projector)

    # Not `trainable = False`: that would switch the copies' BN to their running statistics.
    @property
    def trainable_weights(self) -> list[tf.Variable]:
        """An empty list: no optimizer gets to know of them."""
        return []

    @property
    def non_trainable_weights(self) -> list[tf.Variable]:
        """Those of both copies."""
        return [*self.encoder.weights, *self.projector.weights]

    def projections(self, views: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Views [B, H, W, 3] -> projections [B, E] through which no gradient flows."""
        return tf.stop_gradient(self.projector(self.encoder(views, training=training), training=training))

    def follow(
        self, encoder: tf.keras.Model, projector: tf.keras.Model, rate: tf.Tensor, strategy: tf.distribute.Strategy
    ) -> None:
        """Moves every weight by `rate` of the way to that of the models; to be called in cross-replica context."""

        def move(average, weight):
            average.assign_add(rate * (weight - average))

        for average, weight in [*_weight_pairs(self.encoder, encoder), *_weight_pairs(self.projector, projector)]:
            strategy.extended.update(average, move, args=(weight,), group=False)


def copied(model: tf.keras.Model) -> tf.keras.Model:
    """A functional model of the same layers, weights, statistics and precision, which shares no variable with it."""
    copy = tf.keras.models.clone_model(model, clone_function=_rebuilt)
    for layer in model.layers:
        copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def _rebuilt(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
    config = layer.get_config()
    # Keras leaves this out of a configuration, and a copied BN would have each replica's own statistics.
    if getattr(layer, "synchronized", False):
        config["synchronized"] = True
    return type(layer).from_config(config)


def _weight_pairs(copy: tf.keras.Model, model: tf.keras.Model) -> Iterator[tuple[tf.Variable, tf.Variable]]:
    # By the name of the layer: the order of the layers of a cloned graph is nowhere promised.
    for layer in model.layers:
        yield from zip(copy.get_layer(layer.name).trainable_weights, layer.trainable_weights)
