"""Supervised training, as BiT is made (arXiv 1912.11370, section 3)."""

from __future__ import annotations

import tensorflow as tf

from bitkeras.methods.trainer import Trainer


class Supervised(Trainer):
    """Softmax cross-entropy on labelled images.

    A batch is a dict that holds `images`, float32 [B, H, W, 3] in [-1, 1], and `labels`, int [B].

    Args:
      classifier: images -> logits, float32 [B, K].
      weight_decay: as in `Trainer`.
      class_weights: [K], factors on the cross-entropy of the images of each class; None: 1.
    """

    def __init__(self, classifier: tf.keras.Model, *, weight_decay: float = 1e-4, class_weights=None):
        super().__init__(weight_decay=weight_decay, name="supervised")
        self.classifier = classifier
        self.class_weights = None if class_weights is None else tf.constant(class_weights, tf.float32)

    def batch_loss(self, batch: dict[str, tf.Tensor], *, training: bool) -> tf.Tensor:
        """Mean of the weighted cross-entropy."""
        logits = (self.forward or self.classifier)(batch["images"], training=training)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["labels"], logits)
        if self.class_weights is not None:
            losses *= tf.gather(self.class_weights, batch["labels"])
        return tf.reduce_mean(losses)
