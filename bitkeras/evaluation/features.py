"""Frozen features of a whole data set, computed once."""

from __future__ import annotations

import contextlib
import hashlib
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from bitkeras.errors import UserError

# encoder -> its compiled step, so that a monitor calling `encode` every epoch does not retrace a deep network.
# Weak on both sides: an encoder that nobody holds any more takes its graphs with it.
_STEPS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _compiled_step(encoder: tf.keras.Model) -> tf.types.experimental.GenericFunction:
    """`images -> float32 features [B, D]` in inference mode, one tf.function per encoder."""
    if encoder not in _STEPS:
        encoder_ref = weakref.ref(encoder)

        @tf.function
        def step(images):
            features = encoder_ref()(images, training=False)
            # Half precision would cost kNN and the probe digits that float32 storage does not bring back.
            return tf.cast(features, tf.float32)

        _STEPS[encoder] = step
    return _STEPS[encoder]


def encode(
    encoder: tf.keras.Model, batches: tf.data.Dataset, *, progress: Callable[[int], None] | None = None
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Features of every image in `batches`, in its order, with the encoder in inference mode.

    Args:
      encoder: images [B, H, W, 3] -> features [B, D].
      batches: batches of images, float32 [B, H, W, 3], or of (images, labels [B]); the last may be smaller.
      progress: called after each batch with the number of images done so far.

    Returns:
      Features, float32 [N, D]; with labelled batches (features, labels int32 [N]).

    Raises:
      FloatingPointError: naming the first batch whose features are not all finite.
      UserError: `batches` is empty.
    """
    features, labels, done = [], [], 0
    for index, batch in enumerate(batches):
        images = tf.convert_to_tensor(batch[0] if isinstance(batch, tuple) else batch)
        # An open batch dimension from the start: the last, smaller batch runs the same graph.
        spec = tf.TensorSpec([None, *images.shape[1:]], images.dtype)
        features.append(_compiled_step(encoder).get_concrete_function(spec)(images).numpy())
        _require_finite(features[-1], index, done)
        if isinstance(batch, tuple):
            labels.append(np.asarray(batch[1], np.int32))
        done += len(features[-1])
        if progress is not None:
            progress(done)
    if not features:
        raise UserError("There are no images to encode; check that the folder or the part of the split is not empty.")
    return (np.concatenate(features), np.concatenate(labels)) if labels else np.concatenate(features)


def _require_finite(features: np.ndarray, index: int, first_image: int) -> None:
    """FloatingPointError unless all of `features`, [B, D], are finite."""
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        raise FloatingPointError(
            f"The features of batch {index} are not finite for {bad.sum()} of its {len(bad)} images (the first is "
            f"image {first_image + int(bad.argmax())}, counted from 0); if batch norm is in use, are its statistics "
            "calibrated?"
        )


def encoder_digest(encoder: tf.keras.Model) -> str:
    """SHA-256 of what an encoder computes with: its graph, with the precision of each layer, and its variables."""
    digest = hashlib.sha256(encoder.to_json().encode())
    for variable in encoder.variables:
        value = np.ascontiguousarray(variable.numpy())
        digest.update(repr((value.dtype.name, value.shape)).encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def frozen(encoder: tf.keras.Model) -> Iterator[str]:
    """Holds a block to leaving the encoder as it is; yields its `encoder_digest`.

    Raises:
      RuntimeError: a weight or a statistic of batch norm moved, so that the features are not of one encoder.
    """
    digest = encoder_digest(encoder)
    yield digest
    if encoder_digest(encoder) != digest:
        raise RuntimeError(
            "The encoder moved while its features were computed: a weight or a statistic of batch norm is not what it "
            "was. It must run in inference mode."
        )
