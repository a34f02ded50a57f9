"""Images that cannot be used: listed in a table, and refused or left out."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from bitkeras.errors import UserError
from bitkeras.files import written_atomically

# Of all images. More are no accident: the folder, the disk or the way they were copied is to blame.
MAX_BAD_SHARE = 0.01
_COLUMNS = ("image_id", "file", "reason")


@dataclasses.dataclass(frozen=True)
class BadImage:
    """One image that cannot be used.

    Attributes:
      image_id: its id in the source.
      file: where a person finds it.
      reason: half a sentence: "it is empty (0 bytes)".
    """

    image_id: str
    file: str
    reason: str


def require_none(bad: Sequence[BadImage]) -> None:
    """UserError naming the first of `bad` with its reason."""
    if bad:
        others = f", nor can {len(bad) - 1} others" if len(bad) > 1 else ""
        raise UserError(
            f"The image {bad[0].file} cannot be used because {bad[0].reason}{others}; restore it from where it came "
            "from, or pass --on_bad_image=skip to go without such images."
        )


def require_few(bad: Sequence[BadImage], num_images: int) -> None:
    """UserError where `bad` are more than one in a hundred of `num_images`."""
    if len(bad) > MAX_BAD_SHARE * num_images:
        raise UserError(
            f"{len(bad)} of {num_images} images cannot be used, and --on_bad_image=skip goes without "
            f"{MAX_BAD_SHARE:.0%} at most, since more are no accident; the first is {bad[0].file} because "
            f"{bad[0].reason}. Restore them or take them out of the folder."
        )


def save_bad_images(bad: Sequence[BadImage], path: str | Path) -> None:
    """Writes a CSV with a line an image: image_id, file, reason."""
    with written_atomically(path) as beside, open(beside, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(dataclasses.astuple(image) for image in bad)
