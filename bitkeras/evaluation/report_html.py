"""The page of a report: one file that opens from disk, needs no network, and can be read without its script."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from bitkeras.evaluation.figures.inline import inline_svg
from bitkeras.evaluation.leader import leading_arm, ranked_arms, score_of
from bitkeras.evaluation.markup import Markup, joined, tag
from bitkeras.evaluation.report_card import card_tables, operating_sentence
from bitkeras.evaluation.report_summary import DISCLAIMER
from bitkeras.evaluation.report_tables import (
    Table,
    collapse_table,
    difference_table,
    epochs_table,
    flag_tables,
    retention_table,
    score_table,
    split_table,
)
from bitkeras.evaluation.table_html import set_table

_PAGE = Path(__file__).parent / "page"
# Nothing can be fetched, whatever should stand in the data.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(
    content: Mapping,
    summary: Sequence[tuple[str, str]],
    figures: Sequence[Mapping],
    drawings: Mapping[str, str],
    versions: Mapping[str, str],
) -> str:
    """The text of report.html.

    Args:
      content: as `report.write_report` takes it, of plain values.
      summary: topics and sentences.
      figures: name, section, title, caption, alt, svg and png of each.
      drawings: figure -> text of its SVG file.
      versions: package -> version.
    """
    art = _Art(figures, drawings)
    sections = _sections(content, art, versions)
    body = [
        tag("a", "Skip to the summary", class_="skip", href="#summary"),
        _masthead(content, summary),
        tag("main", _summary(content, summary, sections), (_section(*each) for each in sections)),
        tag("footer", tag("p", DISCLAIMER), tag("p", f"Written by bitkeras {versions['bitkeras']}.")),
        tag("p", class_="announced", role="status", aria_live="polite"),
        tag("script", Markup(_file("report.js"))),
    ]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", content["title"]),
        tag("style", Markup(_file("report.css"))),
    ]
    return "<!doctype html>\n" + tag("html", tag("head", head), "\n", tag("body", body), lang="en") + "\n"


class _Art:
    """The figures by section."""

    def __init__(self, figures: Sequence[Mapping], drawings: Mapping[str, str]):
        self._figures, self._drawings = figures, drawings

    def of(self, section: str) -> list[Markup]:
        """The figures of a section, as elements."""
        return [self._figure(each) for each in self._figures if each["section"] == section]

    def _figure(self, each: Mapping) -> Markup:
        drawing = inline_svg(self._drawings[each["name"]], each["name"], each["alt"])
        files = (tag("a", kind.upper(), href=each[kind], download=True) for kind in ("svg", "png"))
        return tag(
            "figure",
            tag("h3", each["title"]),
            # What is wider than a telephone is moved sideways on its own, not with the page.
            tag("div", drawing, class_="art", tabindex="0", role="group", aria_label=f"Figure: {each['title']}"),
            tag("figcaption", each["caption"], " ", tag("span", joined(files), class_="files")),
            id=f"figure-{each['name']}",
            class_=f"of-{each['name'].split('_')[0]}",
        )


def _masthead(content: Mapping, summary: Sequence[tuple[str, str]]) -> Markup:
    lead = [tag("p", _bound(summary[0][1]), class_="lead")] if summary else []
    numbers = [tag("div", tag("dt", name), tag("dd", value)) for name, value in _numbers(content)]
    return tag(
        "header",
        tag("p", f"bitkeras · {content['kind']}", class_="kicker"),
        tag("h1", content["title"]),
        lead,
        tag("dl", numbers, class_="numbers") if numbers else None,
        tag("p", DISCLAIMER, class_="notice"),
    )


def _numbers(content: Mapping) -> list[tuple[str, str]]:
    """The few numbers that are set large."""
    leader, found = leading_arm(content), []
    if leader is not None:
        found.append((f"balanced accuracy of {leader['name']}", f"{score_of(leader)['value']:.3f}"))
        rivals = [arm for arm in ranked_arms(content) if arm.get("baseline") and arm is not leader]
        if rivals:
            found.append((f"of the best baseline, {rivals[0]['name']}", f"{score_of(rivals[0])['value']:.3f}"))
    if content.get("chance_level") is not None:
        found.append(("by chance", f"{content['chance_level']:.3f}"))
    if content.get("num_test_images") is not None:
        lesions = content.get("num_test_lesions")
        of = "" if lesions is None else f" of {lesions:,} lesions"
        found.append((f"test images{of}", f"{content['num_test_images']:,}"))
    return found


def _summary(content: Mapping, summary: Sequence[tuple[str, str]], sections: Sequence) -> Markup:
    rows = [tag("div", tag("dt", topic), tag("dd", _bound(sentence))) for topic, sentence in summary[1:]]
    links = [tag("li", tag("a", title, href=f"#{id}")) for id, title, _ in sections]
    return tag(
        "section",
        tag("h2", "In short"),
        tag("dl", rows, class_="short") if rows else None,
        tag("nav", tag("ol", links), aria_label="Contents") if links else None,
        id="summary",
    )


def _sections(content: Mapping, art: _Art, versions: Mapping[str, str]) -> list[tuple[str, str, list[Markup]]]:
    """Id, heading and elements of the sections that have something to show."""
    found = [
        ("scores", "Scores", [*art.of("scores"), *_set([score_table(content), difference_table(content)])]),
        ("training", "Training", [*art.of("training"), *_set([epochs_table(content), collapse_table(content)])]),
        ("labels", "Labels", art.of("labels")),
        ("features", "What the features see", art.of("features")),
        ("clinical", "Clinical card", [*art.of("clinical"), *_cards(content)]),
        ("leakage", "Leakage audit", _leakage(content)),
        ("retention", "Swap of the norm", _set([retention_table(content)])),
        ("facts", "Facts", _facts(content.get("facts") or {})),
        ("flags", "Flags", _set(flag_tables(content))),
        ("reproduce", "To reproduce", _reproduce(content, versions)),
    ]
    return [(id, title, elements) for id, title, elements in found if elements]


def _section(id: str, title: str, elements: Sequence[Markup]) -> Markup:
    return tag("section", tag("h2", title), elements, id=id)


def _set(tables: Sequence[Table | None]) -> list[Markup]:
    return [set_table(table) for table in tables if table is not None]


def _cards(content: Mapping) -> list[Markup]:
    arms = [arm for arm in [*ranked_arms(content), *content["arms"]] if arm.get("card")]
    arms = list({arm["id"]: arm for arm in arms}.values())
    return [_card(arm, is_open=len(arms) == 1) for arm in arms]


def _card(arm: Mapping, *, is_open: bool) -> Markup:
    sentence = operating_sentence(arm["card"])
    return tag(
        "details",
        tag("summary", tag("h3", f"Clinical card: {arm['name']}")),
        tag("p", f"Of {arm['card_of']}.") if arm.get("card_of") else None,
        tag("p", sentence) if sentence else None,
        _set(card_tables(arm["card"])),
        open=is_open,
    )


def _leakage(content: Mapping) -> list[Markup]:
    other = (content.get("other_split") or {}).get("leakage") or []
    return [*_lines(content.get("leakage") or []), *_set([split_table(content)]), *_lines(other)]


def _lines(lines: Sequence[str]) -> list[Markup]:
    return [tag("ul", (tag("li", line.strip()) for line in lines), class_="lines")] if lines else []


def _facts(facts: Mapping) -> list[Markup]:
    rows = [tag("div", tag("dt", name), tag("dd", _number(value))) for name, value in facts.items()]
    return [tag("dl", rows, class_="short")] if rows else []


def _reproduce(content: Mapping, versions: Mapping[str, str]) -> list[Markup]:
    # A flag stays in one piece where there is room for it.
    commands = [
        joined(_between(tag("span", word) for word in line.split(" "))) for line in content.get("commands") or []
    ]
    found = [tag("pre", tag("code", command), class_="command", tabindex="0") for command in commands]
    rows = {**versions, **({"commit": content["commit"]} if content.get("commit") else {})}
    told = [
        tag("div", tag("dt", name), tag("dd", tag("code", version)), class_="long" if name == "commit" else None)
        for name, version in rows.items()
    ]
    return [*found, tag("h3", "Versions"), tag("dl", told, class_="versions")]


def _bound(sentence: str) -> str:
    """`sentence` with no break between a number and its per cent sign."""
    return sentence.replace(" %", "\u00a0%")


def _between(words: Iterable[Markup]) -> Iterator[str]:
    """The words with a space between each and the next."""
    for place, word in enumerate(words):
        yield from (" ", word) if place else (word,)


def _number(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "–" if value is None else str(value)


def _file(name: str) -> str:
    return (_PAGE / name).read_text(encoding="utf-8")
