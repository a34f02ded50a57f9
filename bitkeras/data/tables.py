"""Tables about images: text read cell by cell, and what its columns say."""

from __future__ import annotations

import collections
import csv
import dataclasses
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bitkeras.errors import UserError

TABLE_ENDINGS = (".csv", ".tsv", ".tab", ".txt")

# How the releases and spreadsheets write that a fact is not known.
_UNKNOWN = frozenset({"", "unknown", "nan", "na", "n/a", "null"})


@dataclasses.dataclass(frozen=True)
class Table:
    """A table as it was read.

    Attributes:
      path: its file.
      columns: their names, without blanks around them.
      rows: {column: cell} of each line, blanks around cells removed; a cell that a short line lacks is "".
      lines: the number of each row's line in the file, for messages.
    """

    path: Path
    columns: tuple[str, ...]
    rows: list[dict[str, str]]
    lines: list[int]

    def where(self, row: int) -> str:
        """Where a person finds the row."""
        return f"line {self.lines[row]} of {self.path}"

    def require(self, columns: Iterable[str], advice: str = "") -> None:
        """UserError naming those of `columns` that are missing, and those there are.

        Args:
          columns: names.
          advice: what to do, for the end of the sentence.
        """
        missing = [name for name in columns if name not in self.columns]
        if missing:
            there = ", ".join(name or "(no name)" for name in self.columns) or "no columns"
            told = "; ".join(filter(None, [there, advice]))
            raise UserError(f"The table {self.path} has no column {' and no column '.join(missing)}; it has {told}.")

    def cell(self, row: int, column: str) -> str:
        """What stands there.

        Raises:
          UserError: nothing does.
        """
        if not (value := self.rows[row][column]):
            raise UserError(f"There is no {column} in {self.where(row)}; fill it in or remove the line.")
        return value


def read_table(path: str | Path, *, lower_case: bool = False) -> Table:
    """The table in a file of text with commas, tabs or semicolons, in UTF-8, with the names of its columns on top.

    Args:
      path: the file.
      lower_case: give the names of the columns in small letters, whatever the file has.

    Raises:
      UserError: it is no such text, has no rows, two columns of one name, or a line with more cells than there are
        columns.
    """
    path = Path(path)
    try:
        # utf-8-sig: a table saved by a spreadsheet begins with a byte order mark, which would join the first name.
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter_of(file.readline()))
            file.seek(0)
            columns = tuple(name.strip().lower() if lower_case else name.strip() for name in next(reader, ()))
            # Spreadsheets leave lines of nothing but separators behind.
            stripped = ((reader.line_num, [cell.strip() for cell in cells]) for cells in reader)
            numbered = [(line, cells) for line, cells in stripped if any(cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The table {path} cannot be read as comma-separated text ({error}).") from None
    _require_shape(path, columns, numbered)
    rows = [dict(zip(columns, cells + [""] * (len(columns) - len(cells)))) for _, cells in numbered]
    return Table(path, columns, rows, [line for line, _ in numbered])


def facts_of(rows: Iterable[dict[str, str]], columns: dict[str, str]) -> dict[str, np.ndarray]:
    """What `rows` say, for `ImageSource.facts`.

    Args:
      rows: one an image; a row may lack a column.
      columns: fact -> column.

    Returns:
      fact -> [N] str, "" where it is not known; 50.0 becomes 50, as the releases write both. A fact that no row has is
      left out.
    """
    rows = list(rows)
    facts = {fact: [_known(row.get(column, "")) for row in rows] for fact, column in columns.items()}
    return {fact: np.array(values) for fact, values in facts.items() if any(values)}


def labels_of(names: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """(int32 [N], the names in label order) of N class names; whole numbers are ordered as such."""
    by_number = all(name.removeprefix("-").isdecimal() for name in set(names))
    ordered = sorted(set(names), key=(lambda name: (int(name), name)) if by_number else None)
    index = {name: label for label, name in enumerate(ordered)}
    return np.array([index[name] for name in names], dtype=np.int32), tuple(ordered)


def split_names(text: str | None) -> list[str]:
    """The names in a flag that takes several, with commas between them."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def delimiter_of(header: str) -> str:
    """What stands between the cells of a table with this first line: a comma, a tab or a semicolon."""
    # A spreadsheet in most of Europe writes semicolons, and repositories write tabs.
    return max(",\t;", key=header.count)


def _require_shape(path: Path, columns: tuple[str, ...], numbered: list[tuple[int, list[str]]]) -> None:
    for name, count in collections.Counter(columns).items():
        if count > 1 and name:
            raise UserError(f"The table {path} has {count} columns named {name}; rename or remove the others.")
    if not numbered:
        what = "has a header but no rows" if columns else "is empty"
        raise UserError(f"The table {path} {what}; restore it from the release.")
    for line, cells in numbered:
        if len(cells) > len(columns):
            raise UserError(
                f"Line {line} of {path} has {len(cells)} cells and the header {len(columns)}; put a cell with the "
                "separator in it between quotation marks."
            )


def _known(value: str) -> str:
    if value.lower() in _UNKNOWN:
        return ""
    return value[:-2] if value.endswith(".0") and value[:-2].isdigit() else value
