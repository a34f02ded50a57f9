"""Frozen features kept on disk, so that a second probe of the same encoder encodes nothing."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.data.preprocess import PIXELS_VERSION
from bitkeras.data.source import ImageSource
from bitkeras.files import written_atomically

_DIGEST_BYTES = 32


def images_digest(source: ImageSource, indices: np.ndarray) -> str:
    """SHA-256 of ids and bytes of the images at `indices`, in that order.

    Raises:
      OSError, ValueError: an image cannot be read.
    """

    def one(index: int) -> bytes:
        return hashlib.sha256(source.read(int(index))).digest()

    digest = hashlib.sha256()
    with ThreadPoolExecutor() as threads:
        for index, of_bytes in zip(indices, threads.map(one, indices)):
            digest.update(repr(str(source.image_ids[index])).encode() + of_bytes)
    return digest.hexdigest()


def features_key(encoder: str, images: str, *, part: str, image_size: int) -> str:
    """What the features of one part of a split depend on, as SHA-256.

    Args:
      encoder: `encoder_digest`, which the graph, each layer's precision and all variables are in.
      images: `images_digest` of the part; another split has other images in it.
      part: its name.
      image_size: px.
    """
    # TensorFlow's kernels round in their own way in each version; TensorFloat-32 is a choice of the process.
    arithmetic = (tf.__version__, tf.config.experimental.tensor_float_32_execution_enabled())
    return hashlib.sha256(repr((encoder, images, part, image_size, PIXELS_VERSION, arithmetic)).encode()).hexdigest()


class FeatureCache:
    """A folder of features, a file for each key: SHA-256 of key and contents, then the array as NumPy's `.npy`.

    Without the folder, or with a full disk, everything works and features are computed each time.

    Args:
      folder: made when something is kept; "" keeps nothing.
      say: told of damaged files, and that nothing can be kept.
    """

    def __init__(self, folder: str | Path, *, say: Callable[[str], None]):
        self.is_on = str(folder) != ""
        self.folder, self._say = Path(folder), say

    def features(self, key: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """The array kept under `key`, or what `compute` gives, which is then kept.

        Args:
          key: of `features_key`.
          compute: gives float32 [N, D].
        """
        if not self.is_on:
            return compute()
        path = self.folder / f"{key}.features"
        kept = self._read(path, key)
        if kept is None:
            kept = compute()
            self._write(path, key, kept)
        return kept

    def _read(self, path: Path, key: str) -> np.ndarray | None:
        try:
            contents = memoryview(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            self._say(f"The features in {path} cannot be read ({error.strerror or error}), so they are computed again.")
            return None
        if contents[:_DIGEST_BYTES] != _digest(key, contents[_DIGEST_BYTES:]):
            self._say(f"The features in {path} are damaged (their checksum does not fit), so they are computed again.")
            return None
        return np.load(io.BytesIO(contents[_DIGEST_BYTES:]), allow_pickle=False)

    def _write(self, path: Path, key: str, features: np.ndarray) -> None:
        contents = io.BytesIO()
        np.save(contents, features, allow_pickle=False)
        try:
            with written_atomically(path) as beside, open(beside, "wb") as file:
                file.write(_digest(key, contents.getbuffer()))
                file.write(contents.getbuffer())
        except OSError as error:
            self._say(
                f"The features cannot be kept in {self.folder} ({error.strerror or error}), so another probe will "
                "compute them again; the scores are the same."
            )


def _digest(key: str, contents: memoryview) -> bytes:
    digest = hashlib.sha256(key.encode())
    digest.update(contents)
    return digest.digest()
