"""The ISIC challenges of 2018 (task 3) and 2019: one-hot tables of the classes, tables of lesions, released test parts.

Codella et al., arXiv 1902.03368 (2018); Combalia et al., arXiv 1908.02288 (2019, BCN20000).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from bitkeras.data.ham10000 import FACT_COLUMNS, HAM10000_CLASSES, find_ham10000_tables, ham10000_rows
from bitkeras.data.named_images import find_named_images
from bitkeras.data.source import ImageSource, find_files, require_folder, require_unique
from bitkeras.data.tables import TABLE_ENDINGS, Table, facts_of, read_table
from bitkeras.errors import UserError

ISIC2018_CLASSES = HAM10000_CLASSES
ISIC2019_CLASSES = ("ak", "bcc", "bkl", "df", "mel", "nv", "scc", "vasc")
# None of the classes: the test part of 2019 has such images, the training part has none.
UNKNOWN_CLASS = "unk"

_PARTS = ("training", "validation", "test")
_ID_COLUMNS = ("image", "image_id", "image_name", "isic_id")
# Images of a released test part can weigh 0 in the challenge's own score.
_FACT_COLUMNS = {**FACT_COLUMNS, "released_part": "part", "score_weight": "score_weight"}
# The columns of both years under the names of HAM10000.
_RENAMED = {
    "anatom_site_general": "localization",
    "age_approx": "age",
    "diagnosis_confirm_type": "dx_type",
}


@dataclasses.dataclass(frozen=True)
class _Challenge:
    name: str
    title: str
    classes: tuple[str, ...]
    # As the challenge names its files, for messages.
    truth_table: str


_2018 = _Challenge("isic2018", "ISIC 2018 task 3", ISIC2018_CLASSES, "ISIC2018_Task3_Training_GroundTruth.csv")
_2019 = _Challenge("isic2019", "ISIC 2019", ISIC2019_CLASSES, "ISIC_2019_Training_GroundTruth.csv")


def read_isic2018(data_dir: str | Path) -> ImageSource:
    """Task 3 of ISIC 2018: HAM10000 as its training part, with the classes of `read_ham10000`, and what else is there.

    Needed are the table `ISIC2018_Task3_Training_GroundTruth.csv` (or `HAM10000_metadata`) and its images; the tables
    `..._Validation_GroundTruth.csv` and `..._Test_GroundTruth.csv` (also as HAM10000's release has it) add theirs, and
    the test part is the released test. Lesions come from `ISIC2018_Task3_Training_LesionGroupings.csv`; an image that
    no table of lesions names stands for itself. Tables and images may lie at any depth; images that no table of the
    truth names are left out and counted. Ordered by image id.

    Raises:
      UserError: something is missing, doubled or unknown; the sentence names the file, row or id.
    """
    return _read_challenge(data_dir, _2018)


def read_isic2019(data_dir: str | Path) -> ImageSource:
    """ISIC 2019: eight classes, and "unk" as the last where an image is none of them.

    Needed are `ISIC_2019_Training_GroundTruth.csv` and its images; `ISIC_2019_Training_Metadata.csv` adds lesions, age,
    sex and site, and `ISIC_2019_Test_GroundTruth.csv` the released test part. The rest is as in `read_isic2018`.

    Raises:
      UserError: as `read_isic2018`.
    """
    return _read_challenge(data_dir, _2019)


def _read_challenge(data_dir: str | Path, challenge: _Challenge) -> ImageSource:
    folder = require_folder(data_dir)
    files = find_files(folder)
    tables = _find_truth_tables(folder, files, challenge)
    rows = [row for part, table in tables.items() for row in _truth_rows(table, part, challenge)]
    require_unique((row["image"] for row in rows), "the tables " + ", ".join(str(t.path) for t in tables.values()))
    rows.sort(key=lambda row: row["image"])
    _add_details(rows, _find_detail_tables(files, challenge))
    if challenge is _2019:
        # HAM_0000550, BCN_0003390, MSK4_0011169: the hospitals can be told by the lesion only.
        rows = [{**row, "dataset": row.get("lesion_id", "").partition("_")[0]} for row in rows]
    by_id, notes = find_named_images(files, {row["image"]: tables[row["part"]].path for row in rows}, folder)
    paths = [by_id[row["image"]] for row in rows]
    classes = challenge.classes
    if any(row["class"] == UNKNOWN_CLASS for row in rows):
        classes = (*classes, UNKNOWN_CLASS)
    groups, group_notes = _groups(rows)
    return ImageSource(
        name=challenge.name,
        image_ids=np.array([row["image"] for row in rows]),
        paths=np.array([str(path) for path in paths]),
        labels=np.array([classes.index(row["class"]) for row in rows], dtype=np.int32),
        class_names=classes,
        groups=groups,
        official_test=np.array([row["part"] == "test" for row in rows]) if "test" in tables else None,
        notes=(*notes, *group_notes),
        facts=facts_of(rows, _FACT_COLUMNS),
    )


def _find_truth_tables(folder: Path, files: list[Path], challenge: _Challenge) -> dict[str, Table]:
    """Part -> its table of classes; the training part is always there."""
    found = [f for f in files if "groundtruth" in f.stem.lower() and f.suffix.lower() in TABLE_ENDINGS]
    by_part = {part: [f for f in found if _part_of(f) == part] for part in _PARTS}
    if challenge is _2018 and not by_part["training"]:
        by_part["training"] = find_ham10000_tables(files)
    for tables in by_part.values():
        if len(tables) > 1:
            raise UserError(
                f"There are two tables of the classes of one part, {tables[0]} and {tables[1]}; keep the one that is "
                "meant, or pass the folder of one challenge."
            )
    if not by_part["training"]:
        raise UserError(f"There is no table {challenge.truth_table} below {folder}; put it there, unpacked.")
    return {part: read_table(tables[0], lower_case=True) for part, tables in by_part.items() if tables}


def _part_of(path: Path) -> str:
    stem = path.stem.lower()
    # Training last: copies of the training part are also passed on as GroundTruth.csv.
    return "test" if "test" in stem else "validation" if "valid" in stem else "training"


def _truth_rows(table: Table, part: str, challenge: _Challenge) -> list[dict[str, str]]:
    """{image, part, class} and what else the table says, of each image."""
    if challenge is _2018 and "dx" in table.columns:
        rows = [{**row, "image": row["image_id"], "class": row["dx"]} for row in ham10000_rows(table)]
    else:
        rows = _one_hot_rows(table, challenge)
    return [{**row, "part": part} for row in rows]


def _one_hot_rows(table: Table, challenge: _Challenge) -> list[dict[str, str]]:
    id_column = _id_column(table)
    table.require(
        [id_column or "image", *challenge.classes],
        f"a table of {challenge.title} is needed, alone in its folder with its images",
    )
    names = [*challenge.classes, *({UNKNOWN_CLASS} & set(table.columns))]
    rows = []
    for row, cells in enumerate(table.rows):
        image = table.cell(row, id_column)
        chosen = [name for name in names if _number(cells[name], table, row) == 1]
        if len(chosen) != 1 or any(_number(cells[name], table, row) not in (0, 1) for name in names):
            raise UserError(
                f"The image {image} has {len(chosen)} classes in {table.where(row)}, where one of the columns "
                f"{', '.join(names)} must be 1 and the others 0; restore the table from the challenge."
            )
        rows.append({**cells, "image": image, "class": chosen[0]})
    return rows


def _number(cell: str, table: Table, row: int) -> float:
    try:
        return float(cell)
    except ValueError:
        raise UserError(f"In {table.where(row)} stands {cell!r} where 0 or 1 is expected; restore the table.") from None


def _id_column(table: Table) -> str | None:
    return next((name for name in _ID_COLUMNS if name in table.columns), None)


def _find_detail_tables(files: list[Path], challenge: _Challenge) -> list[Table]:
    """Tables of lesions, age, sex and site."""
    words = ("lesiongroupings", "metadata")
    found = [f for f in files if any(word in f.stem.lower() for word in words) and f.suffix.lower() in TABLE_ENDINGS]
    if challenge is _2018:
        found += [f for f in find_ham10000_tables(files) if f not in found]
    tables = [read_table(path, lower_case=True) for path in found]
    return [table for table in tables if _id_column(table)]


def _add_details(rows: list[dict[str, str]], tables: list[Table]) -> None:
    """Adds to each row what `tables` say about its image; what is known already stays."""
    by_image = {row["image"]: row for row in rows}
    for table in tables:
        id_column = _id_column(table)
        for cells in table.rows:
            if (row := by_image.get(cells[id_column])) is None:
                continue
            for column, cell in cells.items():
                name = _RENAMED.get(column, column)
                if cell and not row.get(name):
                    row[name] = cell


def _groups(rows: list[dict[str, str]]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """The lesion of each image, or None where none is known; an image without one is its own."""
    num_known = sum(bool(row.get("lesion_id")) for row in rows)
    if not num_known:
        return None, ("no table of lesions, so every image stands for itself",)
    alone = len(rows) - num_known
    notes = (f"{alone} images without a lesion stand for themselves",) if alone else ()
    return np.array([row.get("lesion_id") or row["image"] for row in rows]), notes
