"""VICReg (Bardes, Ponce, LeCun 2022, arXiv 2105.04906)."""

from __future__ import annotations

import tensorflow as tf

from bitkeras.methods.heads import vicreg_expander
from bitkeras.methods.objectives import gathered, vicreg
from bitkeras.methods.trainer import ViewTrainer


class VICReg(ViewTrainer):
    """Pulls two views together and holds each dimension's variance up and their covariances down.

    Variances and covariances are those of the global batch, as in the released code. The published widths of 8192 are
    134 million weights behind the first layer; `num_projections` sets all three.

    Args:
      encoder: views, float32 [B, H, W, 3] -> features, float32 [B, D].
      num_projections: E.
      num_hidden: width of the projector's hidden layers; None for E, as in the paper.
      head_norm: one of `heads.HEAD_NORMS`; batch as published.
      weight_decay: as in `ViewTrainer`.
    """

    def __init__(
        self,
        encoder: tf.keras.Model,
        *,
        num_projections: int = 8192,
        num_hidden: int | None = None,
        head_norm: str = "batch",
        weight_decay: float = 5e-4,
    ):
        super().__init__(weight_decay=weight_decay, name="vicreg")
        self.encoder = encoder
        sizes = {"num_projections": num_projections, "num_hidden": num_hidden or num_projections, "norm": head_norm}
        self.projector = vicreg_expander(encoder.output_shape[-1], **sizes)

    def view_loss(self, views_a: tf.Tensor, views_b: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Equation 6: "a weighted average of the invariance, variance and covariance terms"."""
        projections_a = gathered(self.projections(views_a, training=training))
        projections_b = gathered(self.projections(views_b, training=training))
        return vicreg(projections_a, projections_b)
