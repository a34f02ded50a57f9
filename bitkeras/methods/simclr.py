"""SimCLR (Chen et al. 2020, arXiv 2002.05709)."""

from __future__ import annotations

import tensorflow as tf

from bitkeras.methods.heads import simclr_projector
from bitkeras.methods.objectives import gathered, nt_xent
from bitkeras.methods.trainer import ViewTrainer


class SimCLR(ViewTrainer):
    """Tells the two views of an image from those of all other images in the batch.

    Negatives and BN statistics are those of the global batch, as published: "as positive pairs are computed in the same
    device, the model can exploit the local information leakage" (section 2.2).

    Args:
      encoder: views, float32 [B, H, W, 3] -> features, float32 [B, D].
      num_projections: E.
      num_hidden: width of the projector's hidden layer; None for D, as in the paper.
      temperature: what cosines are divided by: 0.1 was best on ImageNet with batches of 4096 (table 5), 0.5 on CIFAR-10
        with batches from 256 on (appendix B.9).
      head_norm: one of `heads.HEAD_NORMS`; batch as published.
      weight_decay: as in `ViewTrainer`.
    """

    def __init__(
        self,
        encoder: tf.keras.Model,
        *,
        num_projections: int = 128,
        num_hidden: int | None = None,
        temperature: float = 0.1,
        head_norm: str = "batch",
        weight_decay: float = 5e-4,
    ):
        super().__init__(weight_decay=weight_decay, name="simclr")
        self.encoder = encoder
        num_features = encoder.output_shape[-1]
        sizes = {"num_projections": num_projections, "num_hidden": num_hidden or num_features, "norm": head_norm}
        self.projector = simclr_projector(num_features, **sizes)
        self.temperature = temperature

    def view_loss(self, views_a: tf.Tensor, views_b: tf.Tensor, *, training: bool) -> tf.Tensor:
        """Algorithm 1: "we treat the other 2(N - 1) augmented examples within a minibatch as negative examples"."""
        projections_a = gathered(self.projections(views_a, training=training))
        projections_b = gathered(self.projections(views_b, training=training))
        return nt_xent(projections_a, projections_b, temperature=self.temperature)
