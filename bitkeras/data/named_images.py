"""The files that the ids in a table mean."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from bitkeras.data.source import IMAGE_ENDINGS
from bitkeras.errors import UserError


def find_named_images(
    files: Iterable[Path], named: dict[str, Path], folder: Path
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The image file of each id, which is its name without the ending, at any depth.

    Args:
      files: all files below `folder`.
      named: id -> the table that names it.
      folder: for messages.

    Returns:
      id -> file, and notes on the images that were passed over.

    Raises:
      UserError: an id has no file, or two that differ.
    """
    by_id, num_unnamed, num_copies = {}, 0, 0
    for path in files:
        if path.suffix.lower() not in IMAGE_ENDINGS:
            continue
        if path.stem not in named:
            num_unnamed += 1
            continue
        first = by_id.setdefault(path.stem, path)
        if first is path:
            continue
        if not _is_kaggle_copy(first, path):
            raise UserError(
                f"The image id {path.stem} belongs to two files, {first} and {path}; keep the one that the table means."
            )
        num_copies += 1
    _require_present(named, by_id, folder)
    notes = []
    if num_unnamed:
        notes.append(f"{num_unnamed} other images, which the table does not name, are left out")
    if num_copies:
        notes.append(f"{num_copies} identical copies are left out")
    return by_id, tuple(notes)


def _is_kaggle_copy(a: Path, b: Path) -> bool:
    """Kaggle's archive holds every image twice, in HAM10000_images_part_1 and ham10000_images_part_1."""
    if a.parent.name.lower() != b.parent.name.lower() or a.name != b.name:
        return False
    # Equal length and equal last 4 KB: compressed data differs there, and 5 GB need not be read to find out.
    if a.stat().st_size != b.stat().st_size:
        return False
    tails = []
    for path in (a, b):
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            tails.append(file.read())
    return tails[0] == tails[1]


def _require_present(named: dict[str, Path], by_id: dict[str, Path], folder: Path) -> None:
    absent = sorted(image_id for image_id in named if image_id not in by_id)
    if absent:
        others = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise UserError(
            f"The image {absent[0]}{others} named by {named[absent[0]]} is not below {folder} (looked for "
            f"{absent[0]}{', '.join(IMAGE_ENDINGS)} in every sub-folder); unpack all archives of images there."
        )
