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
from export.warmup import write_warmup

# TF Serving and tf.saved_model.load ignore this folder.
MANIFEST = Path("assets.extra", "export_manifest.json")
MODEL_CARD = Path("assets.extra", "model_card.md")
# What the export itself knows of a model.
FACTS = ("class_names", "image_size", "num_features", "preprocessing", "signatures", "signature_def_hash")
FACTS += ("has_warmup", "tensorflow", "is_frozen", "serve_precision")
PREPROCESSING = (
    "decoded as a viewer shows it (Exif orientation, transparency on white, CMYK), squeezed to {size}x{size} px by an "
    "antialiased triangle filter, scaled to [-1, 1]; done inside the model"
)


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
    require_own_names(manifest or {})
    staged = versions.stage(push_dir)
    try:
        with full_disk_told(push_dir):
            facts = export_model(servable, staged, images=images)
            seal(staged, {**(manifest or {}), **facts})
            return versions.publish(staged, push_dir, version)
    finally:
        shutil.rmtree(staged, ignore_errors=True)  # renamed away where all went well


def export_model(servable: Servable, folder: Path, *, images: Sequence[bytes]) -> dict:
    """The SavedModel with all `SIGNATURES` into `folder`, held to Keras' answers in a fresh process.

    Returns:
      What it is, for the manifest: the keys of `FACTS`.

    Raises:
      export.validation.ValidationError: the SavedModel does not answer as Keras does.
    """
    expected = validation.expected_answer(servable, images)
    facts = write_model(servable, folder)
    validation.validate(folder, images=images, expected=expected)
    return facts


def write_model(servable: Servable, folder: Path) -> dict:
    """The SavedModel, and requests to warm a server up with; returns the keys of `FACTS`."""
    signatures = build_signatures(servable)
    tf.saved_model.save(servable, str(folder), signatures=signatures)
    warmed_up = write_warmup(folder, signatures)
    return {
        "class_names": list(servable.class_names),
        "image_size": servable.image_size,
        "num_features": servable.num_features,
        "preprocessing": PREPROCESSING.format(size=servable.image_size),
        "signatures": {name: describe(signature) for name, signature in signatures.items()},
        "signature_def_hash": str(tf.saved_model.experimental.read_fingerprint(str(folder)).signature_def_hash),
        "has_warmup": warmed_up,
        "tensorflow": tf.__version__,
        "is_frozen": servable.is_frozen,
        "serve_precision": servable.precision,
    }


def seal(folder: Path, manifest: Mapping, *, model_card: str | None = None) -> None:
    """The manifest, with the sha256 of every other file, and the model card; nothing may change after it."""
    (folder / MANIFEST).parent.mkdir(exist_ok=True)
    if model_card is not None:
        (folder / MODEL_CARD).write_text(model_card, encoding="utf-8")
    sealed = {**manifest, "sha256": file_digests(folder)}
    (folder / MANIFEST).write_text(json.dumps(sealed, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def require_own_names(manifest: Mapping) -> None:
    """ValueError where `manifest` is no JSON, or names something that the export itself writes."""
    json.dumps(manifest)
    clash = sorted({*FACTS, "sha256"} & manifest.keys())
    if clash:
        raise ValueError(f"The manifest's {', '.join(clash)} are written by the push itself; choose other names.")


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
def full_disk_told(push_dir: str | Path):
    """Tells a full disk, which TensorFlow reports in several ways, as a UserError."""
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
