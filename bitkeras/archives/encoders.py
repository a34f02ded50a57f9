"""Encoders by the file they come from: encoded images to features."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from bitkeras.archives.storage import gfile, is_remote
from bitkeras.data.preprocess import preprocess
from bitkeras.errors import UserError

# Images decoded side by side.
_PARALLEL_DECODES = 16


@dataclasses.dataclass(frozen=True)
class Embedder:
    """A loaded encoder.

    Attributes:
      embed: encoded images, B of them -> features, float32 [B, D]; raises `tf.errors.InvalidArgumentError` where one of
        them does not decode.
      num_features: D.
    """

    embed: Callable[[Sequence[bytes]], np.ndarray]
    num_features: int


@dataclasses.dataclass(frozen=True)
class Encoder:
    """Where an encoder is and what it takes.

    Attributes:
      path: a `.keras` file, or the folder of a SavedModel that `bitkeras push` wrote.
      image_size: px to which a `.keras` encoder's images are resized; None for a SavedModel, which knows its own.
    """

    path: str
    image_size: int | None = None

    def load(self) -> Embedder:
        """The encoder, ready for images.

        Raises:
          UserError: it cannot be loaded, or gives no features.
        """
        return _load_saved_model(self.path) if self.image_size is None else _load_keras(self.path, self.image_size)

    def checksum(self) -> str:
        """SHA-256 of its file or files."""
        files = [self.path]
        if gfile.isdir(self.path):
            files = sorted(os.path.join(folder, name) for folder, _, names in gfile.walk(self.path) for name in names)
        digest = hashlib.sha256()
        for path in files:
            digest.update(os.path.relpath(path, self.path).encode())
            with gfile.GFile(path, "rb") as file:
                for block in iter(lambda: file.read(2**20), b""):
                    digest.update(block)
        return digest.hexdigest()


def _load_keras(path: str, image_size: int) -> Embedder:
    # With --norm=group an encoder has layers that Keras only knows once this has been imported.
    import bitkeras.backbones  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        if is_remote(path):
            local = os.path.join(folder, "encoder.keras")
            gfile.copy(path, local)
        try:
            encoder = tf.keras.models.load_model(local if is_remote(path) else path, compile=False)
        except (OSError, ValueError) as error:
            raise UserError(f"The encoder {path} cannot be loaded ({error}); pass one that bitkeras wrote.") from error

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def embed(encoded):
        images = tf.map_fn(
            lambda one: preprocess(one, image_size),
            encoded,
            parallel_iterations=_PARALLEL_DECODES,
            fn_output_signature=tf.TensorSpec([image_size, image_size, 3], tf.float32),
        )
        return tf.cast(encoder(images, training=False), tf.float32)

    return Embedder(lambda encoded: embed(tf.constant(encoded)).numpy(), encoder.output_shape[-1])


def _load_saved_model(path: str) -> Embedder:
    loaded = tf.saved_model.load(path)
    serve = loaded.signatures.get("serving_default")
    if serve is None or "embedding" not in serve.structured_outputs:
        raise UserError(f"The SavedModel {path} gives no embedding; pass a version pushed by bitkeras.")

    def embed(encoded):
        # The signature holds the variables only as long as the model is held.
        assert loaded is not None
        return serve(image_bytes=tf.constant(encoded))["embedding"].numpy()

    return Embedder(embed, serve.structured_outputs["embedding"].shape[-1])
