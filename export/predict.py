"""Ask a pushed version about image files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

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
    serve = _load(Path(version_dir))
    paths = [Path(path) for path in paths]
    require_files(paths)
    answers = []
    for start in range(0, len(paths), BATCH_SIZE):
        answers.extend(_predict_batch(serve, paths[start : start + BATCH_SIZE]))
    return answers


def _load(version_dir: Path):
    if not (version_dir / "saved_model.pb").is_file():
        present = list_versions(version_dir)
        hint = f"it holds the versions {present}, so pass {version_dir / str(latest_version(version_dir))}"
        raise UserError(
            f"There is no SavedModel in {version_dir}; "
            + (hint if present else "pass the folder of a pushed version, as <push_dir>/1")
            + "."
        )
    serve = tf.saved_model.load(str(version_dir)).signatures.get("serving_default")
    if serve is None or "image_bytes" not in serve.structured_input_signature[1]:
        raise UserError(f"The SavedModel in {version_dir} takes no image_bytes; pass a version pushed by bitkeras.")
    return serve


def _predict_batch(serve, paths: list[Path]) -> list[dict]:
    answer = serve(image_bytes=tf.constant([read_encoded(path) for path in paths]))
    return as_answers(paths, {name: to_numpy(tensor) for name, tensor in answer.items()})


def as_answers(paths: Sequence[Path], outputs: Mapping[str, np.ndarray]) -> list[dict]:
    """The outputs of `serving_default` for the images of `paths` -> a dict a file, as in `predict_files`.

    Raises:
      UserError: the model could not read one of them.
    """
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
