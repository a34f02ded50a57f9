"""Splits as tables: the one that a run keeps beside itself, and one that somebody brings."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bitkeras.data.source import ImageSource, require_unique
from bitkeras.data.splits import PARTS, UNUSED, Split
from bitkeras.data.tables import delimiter_of
from bitkeras.errors import UserError
from bitkeras.files import written_atomically

_COLUMNS = ("image_id", "lesion_id", "class", "part")
# What a table that somebody brings may call them.
_OTHER_NAMES = {"image": "image_id", "lesion": "lesion_id"}


def save_split(split: Split, source: ImageSource, path: str | Path) -> None:
    """Writes a CSV with a line an image (image_id, lesion_id, class, part); class and lesion stay empty if unknown."""
    with written_atomically(path) as beside, open(beside, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows((*known, part) for known, part in zip(_known_of_images(source), split.parts))


def load_split(path: str | Path, source: ImageSource) -> Split:
    """The split in the table `path`, aligned with `source`.

    The table has the columns image_id (or image) and part, and may have lesion_id (or lesion) and class; others are
    passed over, and the order of its lines does not matter.

    Raises:
      UserError: the file is missing or no split, names an image twice or a part that there is not, or other images,
        lesions or classes than `source`.
    """
    path = Path(path)
    saved = {row["image_id"]: row for row in _read_rows(path)}
    known = _known_of_images(source)
    _require_same_images(path, source, {image_id: row["part"] for image_id, row in saved.items()})
    for image_id, lesion_id, class_name in known:
        row = saved[image_id]
        said = row.get("lesion_id", lesion_id), row.get("class", class_name)
        if said != (lesion_id, class_name):
            raise UserError(
                f"The split {path} has image {image_id} as class {said[1] or '(none)'} of lesion "
                f"{said[0] or '(none)'}, but in {source.name} it is class {class_name or '(none)'} of lesion "
                f"{lesion_id or '(none)'}; make a new split or pass the data it was made from."
            )
    return Split(np.array([saved[image_id]["part"] for image_id, _, _ in known], dtype="<U11"))


def require_parts(split: Split, path: str | Path, needed: Sequence[str]) -> None:
    """UserError if one of the parts `needed` holds no image in the table `path`."""
    empty = [part for part in needed if not len(split.indices(part))]
    if empty:
        raise UserError(
            f"The split {path} leaves {' and '.join(empty)} without images; what is done with these needs each of "
            f"{', '.join(needed)}."
        )


def with_lesions_of(path: str | Path, source: ImageSource) -> ImageSource:
    """`source` with the lesions that the table `path` names, where it knows of none itself.

    Raises:
      UserError: the file is missing or no split, names other images, or a lesion for some of them only.
    """
    if source.groups is not None:
        return source
    rows = _read_rows(Path(path))
    lesions = {row["image_id"]: row["lesion_id"] for row in rows if row.get("lesion_id")}
    if not lesions:
        return source
    _require_same_images(Path(path), source, {row["image_id"]: row["part"] for row in rows})
    without = [image_id for image_id in source.image_ids.tolist() if image_id not in lesions]
    if without:
        others = f" and {len(without) - 1} more" if len(without) > 1 else ""
        raise UserError(
            f"The split {path} names a lesion for some images and none for {without[0]}{others}; "
            "name one for every image (of its own where it has no sister), or take the column out."
        )
    return dataclasses.replace(source, groups=np.array([lesions[image_id] for image_id in source.image_ids.tolist()]))


def _require_same_images(path: Path, source: ImageSource, parts: Mapping[str, str]) -> None:
    """UserError unless `parts` (id -> part) names all images, and of others only those in no part or left out."""
    image_ids = source.image_ids.tolist()
    absent = [image_id for image_id in image_ids if image_id not in parts]
    unused = [image_id for image_id, part in parts.items() if part == UNUSED]
    extra = set(parts).difference(image_ids, source.left_out, unused)
    if absent or extra:
        example = f"{absent[0]} is not in the split" if absent else f"{min(extra)} is only in the split"
        raise UserError(
            f"The split {path} is of other images than {source.name} holds: {len(absent)} are not in it and it names "
            f"{len(extra)} more (for one, {example}); pass the data it was made from, or a split that names every "
            f"image by its id, the part of those to leave out being {UNUSED}."
        )


def _known_of_images(source: ImageSource) -> list[tuple[str, str, str]]:
    """(image id, lesion or "", class or "") of every image."""
    empty = [""] * len(source)
    lesions = empty if source.groups is None else source.groups.tolist()
    classes = empty if source.labels is None else [source.class_names[label] for label in source.labels]
    return list(zip(source.image_ids.tolist(), lesions, classes))


def _read_rows(path: Path) -> list[dict[str, str]]:
    """Rows with image_id and part, and lesion_id and class where the table has them; checked for themselves."""
    try:
        # utf-8-sig: a table saved by a spreadsheet begins with a byte order mark, which would join the first name.
        with open(path, encoding="utf-8-sig", newline="") as file:
            delimiter = delimiter_of(file.readline())
            file.seek(0)
            reader = csv.DictReader(file, delimiter=delimiter, restval="")
            reader.fieldnames = columns = [_column(name) for name in reader.fieldnames or ()]
            rows = [{name: row[name] for name in _COLUMNS if name in columns} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The split {path} cannot be read ({error}); make a new one or correct the path.") from None
    if "image_id" not in columns or "part" not in columns or len(set(columns)) < len(columns):
        raise UserError(
            f"The file {path} is no split: its columns must be image_id (or image) and part, may be lesion_id (or "
            f"lesion) and class, and are {', '.join(columns) or 'none'}."
        )
    _check_rows(rows, path)
    return rows


def _column(name: str) -> str:
    name = name.strip().lower()
    return _OTHER_NAMES.get(name, name)


def _check_rows(rows: list[dict[str, str]], path: Path) -> None:
    for number, row in enumerate(rows, start=1):
        if not row["image_id"]:
            raise UserError(f"The split {path} names no image in row {number}; name one or take the row out.")
        if row["part"] not in (*PARTS, UNUSED):
            raise UserError(
                f"The split {path} puts image {row['image_id']} into {row['part']!r}; known parts are "
                f"{', '.join(PARTS)} and {UNUSED}."
            )
    require_unique((row["image_id"] for row in rows), str(path))
