"""HAM10000 in the layout of its public release (Tschandl et al., Scientific Data 5, 180161, 2018)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from bitkeras.data.source import (
    IMAGE_ENDINGS,
    ImageSource,
    find_files,
    require_folder,
    require_unique,
)
from bitkeras.errors import UserError

HAM10000_CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")

_TABLE_STEM = "ham10000_metadata"
_TABLE_ENDINGS = ("", ".csv", ".tab", ".tsv", ".txt")
_COLUMNS = ("lesion_id", "image_id", "dx")


def read_ham10000(data_dir: str | Path) -> ImageSource:
    """The images named by the table `HAM10000_metadata`, ordered by id; lesions are the groups.

    The table (with or without an ending, in capitals or not) and the images may lie at any depth below `data_dir`.
    Images the table does not name are left out and counted in the notes: the release itself ships such files beside
    the labelled ones (segmentation masks, the unlabelled challenge photographs).

    Raises:
      UserError: something is missing, doubled, damaged or unknown; the sentence names the file, row or id.
    """
    folder = require_folder(data_dir)
    files = find_files(folder)
    if not files:
        raise UserError(f"The folder {folder} is empty; unpack the HAM10000 table and image folders into it.")
    table = _find_table(folder, files)
    rows = _read_rows(table)
    image_ids = [row["image_id"] for row in rows]
    by_id, num_unnamed, num_copies = _index_images(files, set(image_ids))
    _require_present(image_ids, by_id, table, folder)
    paths = [by_id[image_id] for image_id in image_ids]
    return ImageSource(
        name="ham10000",
        image_ids=np.array(image_ids),
        paths=np.array([str(path) for path in paths]),
        labels=np.array([HAM10000_CLASSES.index(row["dx"]) for row in rows], dtype=np.int32),
        class_names=HAM10000_CLASSES,
        groups=np.array([row["lesion_id"] for row in rows]),
        notes=_notes(num_unnamed, num_copies),
    )


def read_ham10000_table(table: str | Path) -> list[dict[str, str]]:
    """The rows of a HAM10000 table ordered by image id, `dx` checked and in small letters; no image is looked for."""
    return _read_rows(Path(table))


def _find_table(folder: Path, files: list[Path]) -> Path:
    tables = [f for f in files if f.stem.lower() == _TABLE_STEM and f.suffix.lower() in _TABLE_ENDINGS]
    if len(tables) > 1:
        raise UserError(f"There are two HAM10000 tables, {tables[0]} and {tables[1]}; keep the one that is meant.")
    if tables:
        return tables[0]
    one_hot = [f for f in files if f.suffix.lower() == ".csv" and "groundtruth" in f.stem.lower()]
    if one_hot:
        raise UserError(
            f"The one-hot table {one_hot[0]} of the ISIC 2018 challenge is not read yet; put the release's own table "
            f"HAM10000_metadata.csv, which also names the lesions, into {folder}."
        )
    raise UserError(f"There is no table HAM10000_metadata or HAM10000_metadata.csv below {folder}; put it there.")


def _read_rows(table: Path) -> list[dict[str, str]]:
    try:
        # utf-8-sig: a table saved by a spreadsheet begins with a byte order mark, which would join the first name.
        with open(table, encoding="utf-8-sig", newline="") as file:
            delimiter = "\t" if "\t" in file.readline() else ","
            file.seek(0)
            reader = csv.DictReader(file, delimiter=delimiter)
            columns = [(name or "").strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            numbered = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The table {table} cannot be read as comma-separated text ({error}).") from None
    missing = [name for name in _COLUMNS if name not in columns]
    if missing:
        raise UserError(
            f"The table {table} has no column {' and no column '.join(missing)}; it has "
            f"{', '.join(columns) or 'no columns'}."
        )
    if not numbered:
        raise UserError(f"The table {table} has a header but no rows; restore it from the release.")
    rows = [_clean_row(row, f"line {line} of {table}") for line, row in numbered]
    require_unique((row["image_id"] for row in rows), str(table))
    return sorted(rows, key=lambda row: row["image_id"])


def _clean_row(row: dict, where: str) -> dict[str, str]:
    cleaned = {name: (row[name] or "").strip() for name in _COLUMNS}
    for name, value in cleaned.items():
        if not value:
            raise UserError(f"There is no {name} in {where}; fill it in or remove the line.")
    cleaned["dx"] = cleaned["dx"].lower()
    if cleaned["dx"] not in HAM10000_CLASSES:
        raise UserError(
            f"The label {row['dx']} of image {cleaned['image_id']} in {where} is unknown; "
            f"known are {', '.join(HAM10000_CLASSES)}."
        )
    return cleaned


def _index_images(files: list[Path], named: set[str]) -> tuple[dict[str, Path], int, int]:
    """{id: file} of the images in `named`; how many others there are, and how many identical copies."""
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
    return by_id, num_unnamed, num_copies


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


def _require_present(image_ids, by_id: dict[str, Path], table: Path, folder: Path) -> None:
    absent = [image_id for image_id in image_ids if image_id not in by_id]
    if absent:
        others = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise UserError(
            f"The image {absent[0]}{others} named by {table} is not below {folder} (looked for "
            f"{absent[0]}{', '.join(IMAGE_ENDINGS)} in every sub-folder); unpack both image archives there."
        )


def _notes(num_unnamed: int, num_copies: int) -> tuple[str, ...]:
    notes = []
    if num_unnamed:
        notes.append(f"{num_unnamed} other images, which the table does not name, are left out")
    if num_copies:
        notes.append(f"{num_copies} identical copies are left out")
    return tuple(notes)
