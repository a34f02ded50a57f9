"""HAM10000 in the layout of its public release (Tschandl et al., Scientific Data 5, 180161, 2018)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bitkeras.data.named_images import find_named_images
from bitkeras.data.source import ImageSource, find_files, require_folder, require_unique
from bitkeras.data.tables import TABLE_ENDINGS, Table, facts_of, read_table
from bitkeras.errors import UserError

HAM10000_CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")

# Fact -> column of the release; `dataset` came with a later version of the table.
FACT_COLUMNS = {"age": "age", "sex": "sex", "site": "localization", "source": "dataset", "dx_type": "dx_type"}

_TABLE_STEM = "ham10000_metadata"
_COLUMNS = ("lesion_id", "image_id", "dx")


def read_ham10000(data_dir: str | Path) -> ImageSource:
    """The images named by the table `HAM10000_metadata`, ordered by id; lesions are the groups.

    The table (with or without an ending, in capitals or not, with commas or tabs) and the images may lie at any depth
    below `data_dir`. Images the table does not name are left out and counted in the notes: the release itself ships
    such files beside the labelled ones (segmentation masks, the test photographs of the ISIC 2018 challenge, which
    `read_isic2018` reads).

    Raises:
      UserError: something is missing, doubled or unknown; the sentence names the file, row or id.
    """
    folder = require_folder(data_dir)
    files = find_files(folder)
    if not files:
        raise UserError(f"The folder {folder} is empty; unpack the HAM10000 table and image folders into it.")
    table = _find_table(folder, files)
    rows = read_ham10000_table(table)
    image_ids = [row["image_id"] for row in rows]
    by_id, notes = find_named_images(files, dict.fromkeys(image_ids, table), folder)
    paths = [by_id[image_id] for image_id in image_ids]
    return ImageSource(
        name="ham10000",
        image_ids=np.array(image_ids),
        paths=np.array([str(path) for path in paths]),
        labels=np.array([HAM10000_CLASSES.index(row["dx"]) for row in rows], dtype=np.int32),
        class_names=HAM10000_CLASSES,
        groups=np.array([row["lesion_id"] for row in rows]),
        notes=notes,
        facts=facts_of(rows, FACT_COLUMNS),
    )


def read_ham10000_table(table: str | Path) -> list[dict[str, str]]:
    """The rows of a HAM10000 table ordered by image id, `dx` checked and in small letters; no image is looked for."""
    return ham10000_rows(read_table(table, lower_case=True))


def ham10000_rows(table: Table) -> list[dict[str, str]]:
    """`read_ham10000_table` of a table that is read already."""
    table.require(_COLUMNS)
    rows = [_clean_row(table, row) for row in range(len(table.rows))]
    require_unique((row["image_id"] for row in rows), str(table.path))
    return sorted(rows, key=lambda row: row["image_id"])


def find_ham10000_tables(files: list[Path]) -> list[Path]:
    """Those of `files` that are named as the table of the release; of identical ones the first."""
    named = [f for f in files if f.stem.lower() == _TABLE_STEM and f.suffix.lower() in ("", *TABLE_ENDINGS)]
    # Who gives the table without an ending its ending often keeps both.
    return [f for i, f in enumerate(named) if all(f.read_bytes() != other.read_bytes() for other in named[:i])]


def _find_table(folder: Path, files: list[Path]) -> Path:
    tables = find_ham10000_tables(files)
    if len(tables) > 1:
        raise UserError(f"There are two HAM10000 tables, {tables[0]} and {tables[1]}; keep the one that is meant.")
    if tables:
        return tables[0]
    one_hot = [f for f in files if f.suffix.lower() == ".csv" and "groundtruth" in f.stem.lower()]
    if one_hot:
        raise UserError(
            f"There is no table HAM10000_metadata below {folder}, but the one-hot table {one_hot[0]} of a challenge; "
            "read it with --dataset=isic2018 or --dataset=isic2019."
        )
    above = find_ham10000_tables(sorted(folder.absolute().parent.iterdir()))
    remedy = f"it lies beside {folder.name}, so pass the folder {above[0].parent}" if above else "put it there"
    raise UserError(f"There is no table HAM10000_metadata or HAM10000_metadata.csv below {folder}; {remedy}.")


def _clean_row(table: Table, row: int) -> dict[str, str]:
    cleaned = {**table.rows[row], **{name: table.cell(row, name) for name in _COLUMNS}}
    cleaned["dx"] = cleaned["dx"].lower()
    if cleaned["dx"] not in HAM10000_CLASSES:
        raise UserError(
            f"The label {table.rows[row]['dx']} of image {cleaned['image_id']} in {table.where(row)} is unknown; "
            f"known are {', '.join(HAM10000_CLASSES)}."
        )
    return cleaned
