"""What a pushed version says of itself, and whether its files are still those that were pushed."""

from __future__ import annotations

import json
from pathlib import Path

from bitkeras.errors import UserError
from export.push import MANIFEST, file_digests


def read_manifest(folder: str | Path) -> dict:
    """The manifest of a pushed version.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    path = Path(folder) / MANIFEST
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"There is no {path}, so {folder} is no version that `bitkeras push` published.") from error
    except (OSError, ValueError) as error:
        raise UserError(f"The manifest {path} cannot be read ({error}); push the run again.") from error


def differing_files(folder: str | Path, manifest: dict) -> list[str]:
    """A sentence for each file that is changed, missing or new since the push; none where all is as it was."""
    wanted, found = manifest["sha256"], file_digests(Path(folder))
    changed = [f"{name} has changed" for name in sorted(wanted.keys() & found) if wanted[name] != found[name]]
    missing = [f"{name} is missing" for name in sorted(wanted.keys() - found)]
    return changed + missing + [f"{name} was not pushed" for name in sorted(found.keys() - wanted)]


def require_whole(folder: str | Path) -> dict:
    """The manifest of a version whose files are those that were pushed.

    Raises:
      UserError: one is not.
    """
    manifest = read_manifest(folder)
    faults = differing_files(folder, manifest)
    if faults:
        raise UserError(f"{folder} is not what was pushed: {'; '.join(faults)}. Push the run again.")
    return manifest
