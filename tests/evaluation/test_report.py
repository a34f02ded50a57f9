import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from made_answers import made_answers
from made_content import made_content, score

from bitkeras.evaluation import report
from bitkeras.evaluation.card import clinical_card
from bitkeras.evaluation.report import write_report

NASTY = """<script>alert('x')</script>|"&amp;$x_{1}$"""
BARE = {"title": "Bare", "arms": [{"id": "a", "name": "only", "scores": {"balanced_accuracy": score(0.5)}}]}
# They have no closing tag.
VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """Elements in order, their attributes, and whether each that is opened is closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_startendtag(self, name, attributes):
        self.elements.append((name, dict(attributes)))

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text.append(data)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("full"), made_content())


def test_files_and_links(full, tmp_path):
    assert full.name == "report.html"
    held = json.loads((full.parent / "report.json").read_text())
    assert {"bitkeras", "python", "numpy"} <= set(held["versions"]) and len(held["figures"]) == 12
    for figure in held["figures"]:
        for kind in ("svg", "png"):
            assert (full.parent / figure[kind]).stat().st_size > 1000
        assert f"]({figure['png']})" in (full.parent / "report.md").read_text()
    assert len(list((full.parent / "figures").iterdir())) == 24


def test_json_is_what_was_given(full):
    content, held = made_content(), json.loads((full.parent / "report.json").read_text())
    for key in set(content) - {"neighbours"}:
        assert held[key] == report.plain(content[key])
    import base64

    assert base64.b64decode(held["neighbours"][0]["query"]["png"]).startswith(b"\x89PNG")


def test_numbers_that_json_does_not_have_become_null(tmp_path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    scores = {"balanced_accuracy": score(0.5), "macro_f1": score(float("nan"))}
    facts = {"a": float("nan"), "b": np.array([1.0, np.inf]), "c": np.float32(0.5), "d": True, "e": tmp_path}
    content = {**BARE, "arms": [{**BARE["arms"][0], "scores": scores}], "facts": facts}
    page = write_report(tmp_path, content)
    held = json.loads((tmp_path / "report.json").read_text(), parse_constant=refuse)
    assert held["facts"] == {"a": None, "b": [1.0, None], "c": 0.5, "d": True, "e": str(tmp_path)}
    assert held["arms"][0]["scores"]["macro_f1"]["value"] is None
    assert ">nan" not in page.read_text() and "| nan" not in (tmp_path / "report.md").read_text()


def test_the_page_is_whole(full):
    page = Page(full.read_text())
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    referred = [a["href"][1:] for n, a in page.elements if n == "a" and a["href"].startswith("#")]
    assert referred and set(referred) <= set(ids)
    # Headings go down by one level at a time.
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1 and levels.count(1) == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:]))
    drawings = [attributes for name, attributes in page.elements if name == "svg"]
    assert len(drawings) == 12 and all(a["role"] == "img" and len(a["aria-label"]) > 40 for a in drawings)
    # Nothing is fetched.
    for name, attributes in page.elements:
        for key in ("src", "href", "xlink:href", "data"):
            value = attributes.get(key, "")
            assert value.startswith(("#", "data:", "figures/")) or not value, (name, value)
    assert not re.search(r"url\((?!#)|@import", full.read_text())


def test_ids_of_drawings_lead_to_their_own(full):
    text = full.read_text()
    for drawing in re.findall(r"<svg\b.*?</svg>", text, re.DOTALL):
        ids = set(re.findall(r'\bid="([^"]+)"', drawing))
        assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', drawing)) and all(
            (a or b) in ids for a, b in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', drawing)
        )


def test_every_colour_of_figures_has_a_dark_one():
    """The names that drawings refer to are those that the style sheet sets, once light, once dark, once on paper."""
    from bitkeras.evaluation.figures.inline import PAGE_COLOURS
    from bitkeras.evaluation.report_html import _PAGE

    style = (_PAGE / "report.css").read_text()
    for name in PAGE_COLOURS.values():
        assert style.count(f"--{name}:") == 3


def test_everything_is_told(full):
    text, content = "".join(Page(full.read_text()).text), made_content()
    for arm in content["arms"]:
        assert arm["name"] in text and f"{arm['scores']['balanced_accuracy']['value']:.3f}" in text
        assert not arm.get("card") or f"Clinical card: {arm['name']}" in text
    for line in (*content["commands"], *content["leakage"], content["commit"]):
        assert line in text
    flags = {f"--{flag}" for arm in content["arms"] for flag in arm["flags"]}
    assert all(flag in text for flag in flags) and "complete collapse" in text
    assert "not a medical device" in text
    told = [*content["other_split"]["leakage"], "+0.060", "+0.012 to +0.109", "paper, where pre-training had lesion"]
    told += ["without seen lesions", "+0.017", "−0.004 to +0.031"]
    # How sure the speed-up is, and that no single epoch sets it.
    told += ["3.71 to 5.69", "in the mean of 5 epochs"]
    for words in told:
        assert words in text and words in (full.parent / "report.md").read_text()
    for section in ("Scores", "Training", "Labels", "What the features see", "Leakage audit", "Swap of the norm"):
        assert section in text


def test_what_is_absent_leaves_no_gap(tmp_path):
    page = Page(write_report(tmp_path, BARE).read_text())
    headings = [attributes.get("id") for name, attributes in page.elements if name == "section"]
    assert headings == ["summary", "scores", "reproduce"]
    assert "None" not in "".join(page.text) and not any(name == "details" for name, _ in page.elements)
    assert [path.name for path in sorted((tmp_path / "figures").iterdir())] == ["scores.png", "scores.svg"]


def test_nothing_at_all(tmp_path):
    page = Page(write_report(tmp_path / "a" / "b", {"title": "Empty", "arms": []}).read_text())
    assert "Empty" in page.text and not any(name in ("table", "svg") for name, _ in page.elements)
    assert (tmp_path / "a" / "b" / "report.md").read_text().startswith("# Empty\n")


def test_names_are_text_wherever_they_stand(tmp_path):
    """Names, flags, facts, commands and lines hold markup; none of it becomes an element, an attribute or a picture."""
    content = made_content()
    content.pop("epochs_to_target"), content.pop("maps")
    content |= {"title": NASTY, "data": NASTY, "split": NASTY, "leakage": [NASTY], "commands": [NASTY]}
    content |= {"facts": {NASTY: NASTY}, "commit": NASTY}
    for arm in content["arms"]:
        arm["name"], arm["flags"] = arm["name"] + NASTY, {**arm["flags"], NASTY: NASTY}
        if arm.get("verdict"):
            arm["verdict"] = {**arm["verdict"], "evidence": NASTY, "remedy": NASTY}
    for row in content["neighbours"]:
        row["query"]["class"] = NASTY
    card = json.loads(json.dumps(content["arms"][0]["card"]).replace('"mel"', json.dumps(NASTY)))
    content["arms"] = [{**content["arms"][0], "card": card}, *content["arms"][1:]]
    folder = write_report(tmp_path, content).parent
    page = Page((folder / "report.html").read_text())
    assert [name for name, _ in page.elements].count("script") == 1
    assert not any("alert" in str(key) for _, attributes in page.elements for key in attributes)
    assert "".join(page.text).count(NASTY) > 15
    for line in (folder / "report.md").read_text().splitlines():
        if line.startswith("| "):
            assert "<script" not in line


def test_tables_of_the_text_have_all_their_cells(full):
    blocks = re.findall(r"(?:^\|.*\n)+", (full.parent / "report.md").read_text(), re.MULTILINE)
    assert len(blocks) == 6
    for block in blocks:
        assert len({len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def test_a_report_that_cannot_be_told_leaves_the_old_one(tmp_path):
    write_report(tmp_path, BARE)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("report.*")}
    for bad in ({"arms": []}, {"title": "t", "arms": [{"id": "a", "name": "no scores"}]}):
        with pytest.raises(KeyError):
            write_report(tmp_path, bad)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("report.*")} == before and len(before) == 3


def test_the_text_is_written_last(tmp_path, monkeypatch):
    """Where report.md stands, the report is finished: other commands ask for it."""
    written = []
    real = report.written_atomically
    monkeypatch.setattr(report, "written_atomically", lambda path: written.append(path.name) or real(path))
    write_report(tmp_path, BARE)
    assert written == ["report.json", "report.html", "report.md"]


def test_the_same_content_gives_the_same_files(tmp_path):
    pages = [write_report(tmp_path / name, BARE).read_bytes() for name in ("one", "two")]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    "made",
    [
        {"classes": ("no", "yes"), "shares": (0.7, 0.3), "groups": False, "trials": 1},
        # Of the third class no image is in the test part, so nothing of it is defined.
        {"classes": ("a", "b", "melanoma"), "shares": (0.5, 0.5, 0.0)},
        {"classes": tuple(f"class {index}" for index in range(40)), "shares": (1,) * 40, "trials": 1},
    ],
)
def test_cards_of_other_data(tmp_path, made):
    answers = made_answers(80, **made)
    card = clinical_card(answers, num_samples=20, facts={})
    arm = {**BARE["arms"][0], "card": card, "scores": card["overall"]}
    page = Page(write_report(tmp_path, {**BARE, "arms": [arm]}).read_text())
    text = "".join(page.text)
    assert "None" not in text and "nan" not in text.lower().split()
    assert all(name in text for name in made["classes"])
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"scores", "roc", "reliability", "confusion"}
    told = re.findall(r"11 of (\d+) classes are shown", text)
    assert told == [str(len(np.unique(answers.labels)))] if len(made["classes"]) == 40 else not told
    # Of one card there is nothing to fold.
    assert [attributes for name, attributes in page.elements if name == "details"] == [{"open": None}]
