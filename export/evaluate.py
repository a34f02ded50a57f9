"""What an exported model answers on the test part, and how fast and how large it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.errors import UserError

BATCH_SIZE = 16
_TIMED_CALLS = 20


class ExportedModel:
    """A SavedModel as it lies on disk.

    Attributes:
      folder: where.
      class_names: K names in the order of the probabilities; none of an encoder alone.
    """

    def __init__(self, folder: str | Path, image: bytes):
        """Loads `folder` and asks it once, for any one `image`."""
        self.folder = Path(folder)
        # The loaded object keeps the variables alive.
        self._loaded = tf.saved_model.load(str(folder))
        self._serve = self._loaded.signatures["serving_default"]
        answer = self._ask([image])
        names = answer["classes"].numpy()[0] if "classes" in answer else []
        self.class_names = tuple(name.decode("utf-8") for name in names)

    def probabilities(
        self,
        read: Callable[[int], bytes],
        indices: Sequence[int],
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Probabilities of the images `read(index)` gives, float32 [N, K].

        Args:
          read: index -> encoded image.
          indices: of the N images.
          progress: called after each batch with (images done, N).

        Raises:
          UserError: the model cannot read one, or is an encoder alone.
        """
        if not self.class_names:
            raise UserError(f"The SavedModel {self.folder} is an encoder alone, without classes to be scored.")
        found = []
        for start in range(0, len(indices), BATCH_SIZE):
            chosen = indices[start : start + BATCH_SIZE]
            answer = self._ask([read(index) for index in chosen])
            unreadable = answer["status"].numpy() != b"ok" if "status" in answer else np.zeros(len(chosen), bool)
            if unreadable.any():
                raise UserError(
                    f"The exported model cannot read image {chosen[int(unreadable.argmax())]} of the data set, which "
                    "the probe could; has it changed since?"
                )
            found.append(answer["probabilities"].numpy())
            if progress is not None:
                progress(min(start + BATCH_SIZE, len(indices)), len(indices))
        return np.concatenate(found)

    def latency_ms(self, image: bytes) -> float:
        """Median time to answer one image, milliseconds, on this machine."""
        times = []
        for _ in range(_TIMED_CALLS):
            started = time.perf_counter()
            self._ask([image])["embedding"].numpy()
            times.append(time.perf_counter() - started)
        return 1000 * float(np.median(times))

    def _ask(self, images: Sequence[bytes]) -> dict[str, tf.Tensor]:
        return self._serve(image_bytes=tf.constant(images))


def size_mb(folder: Path) -> float:
    """Of all files of an exported model, MB (10^6 bytes)."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
