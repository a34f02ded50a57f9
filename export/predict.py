"""Ask a pushed version about image files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from bitkeras.data.conversion import decodable
from bitkeras.errors import UserError
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
    for path in paths:
        if not path.is_file():
            raise UserError(f"The image {path} does not exist or is not a file; pass paths of image files.")
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
    answer = serve(image_bytes=tf.constant([_read(path) for path in paths]))
    for path, status in zip(paths, answer["status"].numpy()):
        if status != b"ok":
            raise UserError(f"The file {path} is broken or no image; pass files that open in a viewer.")
    classes = [name.decode("utf-8") for name in answer["classes"][0].numpy()]
    return [
        {
            "path": str(path),
            "prediction": prediction.decode("utf-8"),
            "probabilities": dict(zip(classes, probabilities.tolist())),
            "ood_score": float(ood_score),
            "embedding": embedding.tolist(),
        }
        for path, prediction, probabilities, ood_score, embedding in zip(
            paths, *(answer[name].numpy() for name in ("prediction", "probabilities", "ood_score", "embedding"))
        )
    ]


def _read(path: Path) -> bytes:
    """The file, made PNG where it is of a kind that the SavedModel does not take."""
    try:
        return decodable(path.read_bytes())
    except ValueError as error:
        raise UserError(f"The file {path} is broken or no image: {error}; pass files that open in a viewer.") from error
