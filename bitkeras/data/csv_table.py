"""Any table with a column of image files, and maybe one of labels, of groups, and of facts."""

from __future__ import annotations

import collections
import functools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bitkeras.data.dicom import numbered, single_frames
from bitkeras.data.dicom_headers import is_dicom
from bitkeras.data.source import IMAGE_ENDINGS, ImageSource, find_files, require_unique
from bitkeras.data.tables import TABLE_ENDINGS, Table, facts_of, labels_of, read_table, split_names
from bitkeras.errors import UserError


def read_csv(
    data_dir: str | Path,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    group_column: str | None = None,
    id_column: str | None = None,
    fact_columns: str | None = None,
    dicom_window: str | None = None,
) -> ImageSource:
    """The images that a table lists, in its order.

    A cell of the image column is a path, absolute or relative to the table, with or without its ending, or the name of
    a file anywhere below the table's folder, with or without its ending. DICOM files of one frame are shown as
    `read_dicom` shows them.

    Args:
      data_dir: the table (commas, tabs or semicolons, UTF-8), or a folder that holds one.
      image_column: the column of the files; None: "image".
      label_column: the column of the classes, which are ordered by name, or by number where all are whole numbers;
        None: no labels.
      group_column: the column of lesions or patients, whose images stay together; an empty cell is a group of its own.
        None: the patients of DICOM files, as in `read_dicom`.
      id_column: the column of the images' ids; None: the image column.
      fact_columns: columns for `ImageSource.facts`, with commas between them. Nothing else of the table is kept.
      dicom_window: as in `read_dicom`.

    Raises:
      UserError: table, column, cell or file is missing, doubled or unknown; the sentence names it.
    """
    table = read_table(_find_table(Path(data_dir)))
    image = _column(table, image_column or "image", "--image_column")
    label = label_column and _column(table, label_column, "--label_column")
    group = group_column and _column(table, group_column, "--group_column")
    name = _column(table, id_column, "--id_column") if id_column else image
    facts = {fact: _column(table, fact, "--fact_columns") for fact in split_names(fact_columns)}
    rows = range(len(table.rows))
    image_ids = [table.cell(row, name) for row in rows]
    require_unique(image_ids, f"column {name} of {table.path}")
    paths = _find_images(table, image)
    fields = _image_fields(paths, dicom_window)
    if group:
        groups = [table.rows[row][group] or f"alone:{image_ids[row]}" for row in rows]
        fields["groups"] = np.array(groups)
    labels, class_names = labels_of([table.cell(row, label) for row in rows]) if label else (None, ())
    return ImageSource(
        name="csv",
        image_ids=np.array(image_ids),
        labels=labels,
        class_names=class_names,
        facts=facts_of(table.rows, facts),
        **fields,
    )


def _find_table(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise UserError(f"The table {path} does not exist; pass it, or the folder it is in, with --data_dir.")
    tables = sorted(f for f in path.iterdir() if f.suffix.lower() in TABLE_ENDINGS and not f.name.startswith("."))
    if len(tables) != 1:
        there = f"{len(tables)} tables ({', '.join(f.name for f in tables[:5])})" if tables else "no table"
        raise UserError(f"The folder {path} holds {there}; pass the table itself, as in --data_dir={path}/images.csv.")
    return tables[0]


def _column(table: Table, name: str, flag: str) -> str:
    """`name` as the table writes it."""
    if name in table.columns:
        return name
    alike = [column for column in table.columns if column.lower() == name.lower()]
    if len(alike) != 1:
        table.require([name], f"name one of them with {flag}")
    return alike[0]


def _find_images(table: Table, column: str) -> list[Path]:
    """The file of each row.

    Raises:
      UserError: there is none, there are several, or two rows have the same.
    """
    folder = table.path.parent
    # Walked only where a cell is no path, which a table of a hundred thousand paths should not wait for.
    below = functools.lru_cache(maxsize=1)(lambda: _by_name(folder))
    paths = [_find_image(table, row, column, below) for row in range(len(table.rows))]
    for path, count in collections.Counter(map(os.path.realpath, paths)).items():
        if count > 1:
            raise UserError(f"{count} lines of {table.path} mean the file {path}; every image must stand once.")
    return paths


def _find_image(table: Table, row: int, column: str, below: Callable[[], dict[str, list[Path]]]) -> Path:
    cell, folder = table.cell(row, column), table.path.parent
    # A table made on Windows has the other slash.
    for spelling in dict.fromkeys((cell, cell.replace("\\", "/"))):
        try:
            if (folder / spelling).is_file():
                return folder / spelling
        except OSError as error:
            raise UserError(
                f"The column {column} in {table.where(row)} names no file that can be looked at ({error.strerror}); "
                "correct the table or --image_column."
            ) from None
    named = below().get(cell.replace("\\", "/").rpartition("/")[2], [])
    if len(named) == 1:
        return named[0]
    if named:
        raise UserError(
            f"The image {cell} in {table.where(row)} is no path from {folder}, and two files have that name, "
            f"{named[0]} and {named[1]}; write the path into the table."
        )
    raise UserError(
        f"The image {cell} in {table.where(row)} is neither a path from {folder} nor the name of a file below it "
        f"(with or without {', '.join(IMAGE_ENDINGS)} or .dcm); correct the table or --image_column."
    )


def _by_name(folder: Path) -> dict[str, list[Path]]:
    """Name, with and without the ending, -> image files below `folder`."""
    by_name = collections.defaultdict(list)
    for path in find_files(folder):
        if _is_image_name(path) or is_dicom(path):
            for name in {path.name, path.stem}:
                by_name[name].append(path)
    return by_name


def _is_image_name(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_ENDINGS


def _image_fields(paths: list[Path], dicom_window: str | None) -> dict:
    """`paths`, and where DICOM files are among them `converted`, and their patients as groups."""
    fields = {"paths": np.array([str(path) for path in paths])}
    dicom = [path for path in paths if not _is_image_name(path) and is_dicom(path)]
    if dicom:
        show, people = single_frames(dicom, dicom_window)
        fields["groups"] = numbered([people.get(path, (str(path),)) for path in paths])
        fields["converted"] = lambda index: show(path) if (path := paths[index]) in people else path.read_bytes()
        return {**fields, "conversion": f"window {dicom_window}"}
    if dicom_window:
        raise UserError(f"--dicom_window={dicom_window} is for DICOM files, and the table lists none; leave it out.")
    return fields
