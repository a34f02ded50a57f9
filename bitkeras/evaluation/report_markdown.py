"""The report as Markdown, for a terminal, a pull request or a wiki: what the page tells, without its cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bitkeras.evaluation.report_summary import DISCLAIMER
from bitkeras.evaluation.report_tables import (
    Table,
    collapse_table,
    difference_table,
    epochs_table,
    retention_table,
    score_table,
    split_table,
)

_SECTIONS = {
    **{"scores": "Scores", "training": "Training", "labels": "Labels"},
    **{"features": "What the features see", "clinical": "Clinical card"},
}
_TABLES = {"scores": (score_table, difference_table), "training": (epochs_table, collapse_table)}


def markdown(
    content: Mapping, summary: Sequence[tuple[str, str]], figures: Sequence[Mapping], versions: Mapping[str, str]
) -> str:
    """The text of report.md; arguments as of `report_html.page`."""
    parts = [f"# {content['title']}", " ".join(sentence for _, sentence in summary), f"*{DISCLAIMER}*"]
    for section, title in _SECTIONS.items():
        tables = [_table(table) for make in _TABLES.get(section, ()) if (table := make(content)) is not None]
        shown = [_figure(each) for each in figures if each["section"] == section]
        parts += [f"## {title}", *tables, *shown] if tables or shown else []
    if content.get("leakage"):
        parts += ["## Leakage audit", "\n".join(f"- {line.strip()}" for line in content["leakage"])]
    if (table := split_table(content)) is not None:
        told = "\n".join(f"- {line.strip()}" for line in content["other_split"]["leakage"])
        parts += ["## The same encoders in other parts", _table(table), told]
    if (table := retention_table(content)) is not None:
        parts += ["## Swap of the norm", _table(table)]
    if content.get("facts"):
        parts += ["## Facts", "\n".join(f"- {name}: {_number(value)}" for name, value in content["facts"].items())]
    if content.get("commands"):
        parts += ["## To reproduce", "```\n" + "\n".join(content["commands"]) + "\n```"]
    commit = f"commit {content['commit']}" if content.get("commit") else None
    listed = [*(f"{name} {version}" for name, version in versions.items()), commit]
    parts += ["## Versions", ", ".join(filter(None, listed))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figure(each: Mapping) -> str:
    return f"![{each['title']}]({each['png']})\n\n*{each['title']}. {each['caption']}*"


def _table(table: Table) -> str:
    rows = [table.headings, ["---"] * len(table.headings), *([cell.text for cell in row] for row in table.rows)]
    lines = ["| " + " | ".join(_escaped(text) for text in row) + " |" for row in rows]
    return "\n".join([*lines, "", table.caption])


def _escaped(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _number(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"
