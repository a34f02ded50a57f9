"""Write, check, rename: the one way a model becomes a version."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from bitkeras.errors import UserError
from export import validation, versions
from export.servable import Servable
from export.signatures import build_signatures, describe

# TF Serving and tf.saved_model.load ignore this folder.
MANIFEST = Path("assets.extra", "export_manifest.json")


def push(
    servable: Servable,
    *,
    push_dir: str | Path,
    images: Sequence[bytes],
    version: int | None = None,
    manifest: Mapping | None = None,
) -> Path:
    """Publish `servable` as `push_dir/<version>/`, or leave nothing visible.

    Args:
      servable: what to serve.
      push_dir: the base folder a server watches; made if needed.
      images: encoded real images, at least one; the SavedModel must answer them as Keras does.
      version: an integer from 1 on that does not exist yet; None for the highest + 1.
      manifest: JSON values to record beside the model (configuration, scores, commit).

    Returns:
      The published folder.

    Raises:
      UserError: an existing version, a folder that cannot be written, a full disk, a broken image.
      export.validation.ValidationError: the SavedModel does not answer as Keras does.
    """
    if not images:
        raise UserError("No image was given to check the model with; pass at least one real JPEG or PNG.")
    if version is not None:
        versions.require_free(push_dir, version)  # before the minutes a large model takes
    json.dumps(manifest or {})
    staged = versions.stage(push_dir)
    try:
        with _full_disk_told(push_dir):
            expected = validation.expected_answer(servable, images)
            write_model(servable, staged, manifest=manifest or {})
            validation.validate(staged, images=images, expected=expected)
            return versions.publish(staged, push_dir, version)
    finally:
        shutil.rmtree(staged, ignore_errors=True)  # renamed away where all went well


def write_model(servable: Servable, folder: Path, *, manifest: Mapping) -> None:
    """The SavedModel with all `SIGNATURES`, and its manifest, into `folder`."""
    signatures = build_signatures(servable)
    tf.saved_model.save(servable, str(folder), signatures=signatures)
    facts = {
        "class_names": list(servable.class_names),
        "image_size": servable.image_size,
        "num_features": servable.num_features,
        "signatures": {name: describe(signature) for name, signature in signatures.items()},
        "tensorflow": tf.__version__,
        "sha256": file_digests(folder),
    }
    clash = sorted(facts.keys() & manifest.keys())
    if clash:
        raise ValueError(f"The manifest's {', '.join(clash)} are written by the push itself; choose other names.")
    path = folder / MANIFEST
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**manifest, **facts}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def file_digests(folder: Path) -> dict[str, str]:
    """{relative path: sha256} of every file below `folder` but the manifest."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def _full_disk_told(push_dir: str | Path):
    try:
        yield
    except (OSError, tf.errors.ResourceExhaustedError, validation.ValidationError) as error:
        # TensorFlow's file system reports ENOSPC as ResourceExhausted with this text; so does the fresh process.
        if getattr(error, "errno", None) != errno.ENOSPC and "No space left" not in str(error):
            raise
        raise UserError(
            f"The disk is full, so nothing was published in {push_dir}; free space there and in the temporary folder, "
            "and push again."
        ) from error
