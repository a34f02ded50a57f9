"""A table of a report as HTML."""

from __future__ import annotations

from collections.abc import Sequence

from bitkeras.evaluation.markup import Markup, tag
from bitkeras.evaluation.report_tables import Cell, Table

# Letters of a cell that stay on one line.
_TIGHT = 26


def set_table(table: Table) -> Markup:
    """A table that a script can sort and that scrolls sideways on its own."""
    # A column of numbers is set flush right, with its heading.
    numbers = [any(_is_number(row[place]) for row in table.rows) for place in range(len(table.headings))]
    head = tag("tr", (_heading(table, place, numbers) for place in range(len(table.headings))))
    rows = (tag("tr", (_cell(cell, place, numbers) for place, cell in enumerate(row))) for row in table.rows)
    inside = tag(
        "table", tag("caption", tag("span", table.caption)), tag("thead", head), tag("tbody", rows), class_="sortable"
    )
    return tag("div", inside, class_="wide", tabindex="0", role="region", aria_label=table.caption)


def _heading(table: Table, place: int, numbers: Sequence[bool]) -> Markup:
    order = table.sorted_by[1] if table.sorted_by and table.sorted_by[0] == place else None
    text = table.headings[place]
    kind = " ".join(["number"] * numbers[place] + ["tight"] * (len(text) <= _TIGHT)) or None
    return tag("th", text, scope="col", aria_sort=order, class_=kind)


def _cell(cell: Cell, place: int, numbers: Sequence[bool]) -> Markup:
    is_name = place == 0
    # Only what is a sentence is broken into lines.
    size = "number" if numbers[place] else None if is_name else "tight" if len(cell.text) <= _TIGHT else "loose"
    kind = " ".join(filter(None, [cell.mark, size])) or None
    text = tag("code", cell.text) if cell.code else tag("span", cell.text) if cell.mark else cell.text
    key = None if cell.key is None else f"{cell.key:.10g}"
    return tag("th" if is_name else "td", text, scope="row" if is_name else None, class_=kind, data_key=key)


def _is_number(cell: Cell) -> bool:
    return cell.key is not None and (cell.mark is None or cell.mark.startswith("share"))
