"""Ask a pushed version about image files."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.archives.storage import gfile, is_remote
from bitkeras.data.conversion import decodable
from bitkeras.errors import UserError
from export.decoding import READABLE
from export.versions import latest_version, list_versions

BATCH_SIZE = 16


def predict_files(version_dir: str | Path, paths: Sequence[str | Path]) -> list[dict]:
    """Classify image files with the SavedModel in `version_dir`.

    Returns:
      A dict a file, in the order of `paths`: `path` str, `prediction` str, `probabilities` {class: float} in
      label order, `ood_score` float in [0, 1], `embedding` list of D floats. Ready for json.dumps.

    Raises:
      UserError: no SavedModel of ours there, a file that is missing, or one that is no image.
    """
    model = Model(version_dir)
    paths = [Path(path) for path in paths]
    require_files(paths)
    answers = []
    for start in range(0, len(paths), BATCH_SIZE):
        batch = paths[start : start + BATCH_SIZE]
        answers.extend(as_answers(batch, model.ask([read_encoded(path) for path in batch])))
    return answers


class Model:
    """A pushed version, loaded."""

    def __init__(self, version_dir: str | Path):
        """Loads it.

        Raises:
          UserError: there is no SavedModel of ours, or it is an encoder alone.
        """
        _require_model(str(version_dir))
        # It holds the variables.
        self._loaded = tf.saved_model.load(str(version_dir))
        self._serve = self._loaded.signatures.get("serving_default")
        if self._serve is None or "image_bytes" not in self._serve.structured_input_signature[1]:
            raise UserError(f"The SavedModel in {version_dir} takes no image_bytes; pass a version pushed by bitkeras.")
        require_classes(self._serve.structured_outputs)

    @functools.cached_property
    def class_names(self) -> tuple[str, ...]:
        """K names, in the order of the probabilities."""
        # Of an image that cannot be read all is empty, so a picture of one dot is asked about.
        return tuple(self.ask([tf.io.encode_png(tf.zeros([1, 1, 3], tf.uint8)).numpy()])["classes"][0].tolist())

    def ask(self, images: Sequence[bytes]) -> dict[str, np.ndarray]:
        """The outputs of `serving_default` for encoded images; strings as unicode, and a status for each."""
        answer = {name: to_numpy(one) for name, one in self._serve(image_bytes=tf.constant(list(images))).items()}
        # Versions of earlier bitkeras have none, and fail as a batch.
        return {"status": np.full(len(images), READABLE), **answer}


def _require_model(version_dir: str) -> None:
    if not gfile.exists(os.path.join(version_dir, "saved_model.pb")):
        present = [] if is_remote(version_dir) else list_versions(version_dir)
        raise UserError(
            f"There is no SavedModel in {version_dir}; "
            + (
                f"it holds the versions {present}, so pass {Path(version_dir) / str(latest_version(version_dir))}"
                if present
                else "pass the folder of a pushed version, as <push_dir>/1"
            )
            + "."
        )


def as_answers(paths: Sequence[Path], outputs: Mapping[str, np.ndarray]) -> list[dict]:
    """The outputs of `serving_default` for the images of `paths` -> a dict a file, as in `predict_files`.

    Raises:
      UserError: the model could not read one of them, or is an encoder alone.
    """
    require_classes(outputs)
    # Versions of earlier bitkeras have neither status nor score.
    rows, is_scored = len(outputs["classes"]), "ood_score" in outputs
    for path, status in zip(paths, outputs.get("status", np.full(rows, READABLE)).tolist()):
        if status != READABLE:
            raise UserError(f"The file {path} is broken or no image; pass files that open in a viewer.")
    classes = outputs["classes"][0].tolist()
    return [
        {
            "path": str(path),
            "prediction": prediction,
            "probabilities": dict(zip(classes, probabilities)),
            **({"ood_score": outputs["ood_score"][row].item()} if is_scored else {}),
            "embedding": embedding,
        }
        for row, (path, prediction, probabilities, embedding) in enumerate(
            zip(paths, *(outputs[name].tolist() for name in ("prediction", "probabilities", "embedding")))
        )
    ]


def require_classes(outputs: Mapping) -> None:
    """UserError where the outputs of `serving_default` are those of an encoder alone."""
    if "classes" not in outputs:
        raise UserError(
            "The model is an encoder without classes, so there is nothing to predict; `bitkeras embed --encoder=...` "
            "gives its features."
        )


def to_numpy(tensor: tf.Tensor) -> np.ndarray:
    """As an array; strings as unicode."""
    array = tensor.numpy()
    return np.char.decode(array.astype("S"), "utf-8") if array.dtype == object else array


def require_files(paths: Sequence[Path]) -> None:
    """UserError naming the first that is no file."""
    for path in paths:
        if not path.is_file():
            raise UserError(f"The image {path} does not exist or is not a file; pass paths of image files.")


def read_encoded(path: Path) -> bytes:
    """The file, made PNG where it is of a kind that the SavedModel does not take; UserError where it is no image."""
    try:
        return decodable(path.read_bytes())
    except ValueError as error:
        raise UserError(f"The file {path} is broken or no image: {error}; pass files that open in a viewer.") from error
