"""SimSiam (Chen, He 2020, arXiv 2011.10566)."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from bitkeras.methods.heads import simsiam_predictor, simsiam_projector
from bitkeras.methods.objectives import negative_cosine
from bitkeras.methods.trainer import ViewTrainer


class SimSiam(ViewTrainer):
    """A siamese network that learns without negatives, since one side's gradient is stopped.

    Args:
      encoder: views, float32 [B, H, W, 3] -> features, float32 [B, D].
      num_projections: E, the length of projections and predictions.
      num_hidden: width of the projector's hidden layers; None for E, as in the paper.
      num_predictor_hidden: width of the predictor's bottleneck.
      predictor_scale: step -> factor on the predictor's gradients, or None for 1. `schedules.undo` makes the one that
        keeps the predictor's learning rate constant (section 4.2, table 1: "not decayed").
      head_norm: one of `heads.HEAD_NORMS`; batch as published.
      weight_decay: as in `ViewTrainer`.
    """

    def __init__(
        self,
        encoder: tf.keras.Model,
        *,
        num_projections: int = 2048,
        num_hidden: int | None = None,
        num_predictor_hidden: int = 512,
        predictor_scale: Callable[[tf.Tensor], tf.Tensor] | None = None,
        head_norm: str = "batch",
        weight_decay: float = 5e-4,
    ):
        super().__init__(weight_decay=weight_decay, name="simsiam")
        self.encoder = encoder
        sizes = {"num_projections": num_projections, "num_hidden": num_hidden or num_projections, "norm": head_norm}
        self.projector = simsiam_projector(encoder.output_shape[-1], **sizes)
        self.predictor = simsiam_predictor(num_projections, num_hidden=num_predictor_hidden, norm=head_norm)
        self.predictor_scale = predictor_scale

    def view_loss(self, views_a: tf.Tensor, views_b: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Algorithm 1: `L = D(p_a, z_b)/2 + D(p_b, z_a)/2`, gradients stopped at z."""
        projections_a = self.projections(views_a, training=training)
        projections_b = self.projections(views_b, training=training)
        predictions_a = self.predictor(projections_a, training=training)
        predictions_b = self.predictor(projections_b, training=training)
        return 0.5 * (
            negative_cosine(predictions_a, self.target(projections_b))
            + negative_cosine(predictions_b, self.target(projections_a))
        )

    def target(self, projections: tf.Tensor) -> tf.Tensor:
        """What the other view is pulled to. Without the stop-gradient everything collapses to one point."""
        return tf.stop_gradient(projections)
