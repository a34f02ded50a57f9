"""Histograms of the statistics of batch norm, by layer and epoch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

# What TensorBoard draws behind one another without hiding most of it.
_NUM_WRITINGS = 25


class NormHistograms(tf.keras.callbacks.Callback):
    """Writes `write_norm_histograms` of the trained model every few epochs and after the last, some 25 times a run.

    SimSiam on R50x1 has 53 batch norms, 158 histograms of 0.8 kB: 3 MB a run. After every one of 400 epochs it would be
    50 MB. A model without batch norm writes nothing.

    Args:
      writer: of a TensorBoard run.
      num_epochs: of the whole run.
    """

    def __init__(self, writer: tf.summary.SummaryWriter, *, num_epochs: int):
        super().__init__()
        self.writer, self.num_epochs = writer, num_epochs
        self.every = -(-num_epochs // _NUM_WRITINGS)

    def on_epoch_end(self, epoch, logs=None):
        """Writes when it is time."""
        if (epoch + 1) % self.every == 0 or epoch + 1 == self.num_epochs:
            write_norm_histograms(self.writer, self.model, step=epoch + 1)


def write_norm_histograms(writer: tf.summary.SummaryWriter, model: tf.keras.Model, *, step: int) -> None:
    """One histogram over the channels for each batch norm of `model` and its parts, and each of three quantities.

    `bn_mean` and `bn_log10_variance` are the running statistics; a variance that drifts over decades would fill one
    bar of a linear histogram. `bn_gamma` shows channels that weight decay switches off, or that a zero start has not
    let in yet. The offset `beta` is left out, since it tells least.

    Args:
      writer: of a TensorBoard run.
      model: the trainer, or a network.
      step: the epoch, 0 before training.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.histogram.summary_v2 import histogram_pb

    summary = Summary()
    for name, layer in _batch_norms(model):
        for quantity, values in _quantities(layer).items():
            # Counted in NumPy and written as one event: 0.4 ms each, where `tf.summary.histogram` runs some 30 ops.
            summary.value.extend(histogram_pb(f"{quantity}/{name}", values[np.isfinite(values)]).value)
    if summary.value:
        with writer.as_default():
            tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step=step)
        writer.flush()


def _batch_norms(model: tf.keras.Model, above: str = "") -> Iterator[tuple[str, tf.keras.layers.Layer]]:
    """(PART/LAYER, layer) of every batch norm, in the order of the graphs."""
    for layer in model.layers:
        if isinstance(layer, tf.keras.Model):
            yield from _batch_norms(layer, f"{above}{layer.name}/")
        elif hasattr(layer, "moving_variance"):
            yield above + layer.name, layer


def _quantities(layer: tf.keras.layers.Layer) -> dict[str, np.ndarray]:
    """Name -> float [C]; a layer without scale has no `bn_gamma`."""
    variance = np.maximum(layer.moving_variance.numpy(), np.finfo(np.float32).tiny)
    quantities = {"bn_mean": layer.moving_mean.numpy(), "bn_log10_variance": np.log10(variance)}
    return quantities if layer.gamma is None else {**quantities, "bn_gamma": layer.gamma.numpy()}
