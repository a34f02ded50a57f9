"""The page of a report in a real browser: what a person sees, does and prints."""

import io
import json
import re

import pytest
from browser import find_browser, started
from made_content import made_content

from bitkeras.evaluation.report import write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="no Chromium is installed"),
]

COLUMN = (
    """[...document.querySelectorAll("#scores table.sortable")[0].tBodies[0].rows].map(r => r.cells[%d].innerText)"""
)
SORTED_BY = """[...document.querySelectorAll("#scores table.sortable")[0].tHead.rows[0].cells]
    .map(h => [h.innerText.trim(), h.ariaSort]).filter(h => h[1])"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("report"), made_content())


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with started(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [400, 1200])
def test_it_renders_without_complaint_and_without_the_network(browser, path, width, dark):
    browser.open(path, width=width, dark=dark)
    assert browser.complaints() == [] and browser.requests() == []
    sizes = browser.evaluate(
        """[...document.querySelectorAll("svg")].map(e => e.getBoundingClientRect()).map(r => [r.width, r.height])"""
    )
    assert len(sizes) == 12 and min(min(size) for size in sizes) > 100
    # Nothing moves sideways but what scrolls on its own.
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    light, text = browser.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    assert contrast(light, text) > 10 and (luminance(light) < 0.05) == dark


def test_pictures_in_drawings_are_decoded(browser, path):
    browser.open(path)
    found = browser.evaluate(
        """Promise.all([...document.querySelectorAll("svg image")].map(async e => {
            const image = new Image(); image.src = e.getAttribute("xlink:href"); await image.decode();
            return image.naturalWidth; }))"""
    )
    # Seven queries with five neighbours each, four maps, and the bar of colours, which is narrow.
    assert len(found) >= 46 and min(found) > 10


def test_text_has_contrast_in_both_schemes(browser, path):
    """WCAG AA: 4.5 to 1, for every piece of text that is shown, against what is behind it."""
    script = """(() => {
      const behind = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
        if (!/rgba\\(0, 0, 0, 0\\)|transparent/.test(c)) return c; } };
      const canvas = document.createElement("canvas").getContext("2d");
      const plain = (c, on) => { canvas.fillStyle = on ?? "#fff"; canvas.fillRect(0, 0, 1, 1); canvas.fillStyle = c;
        canvas.fillRect(0, 0, 1, 1); return "rgb(" + [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3) + ")"; };
      const paper = getComputedStyle(document.body).backgroundColor;
      document.querySelectorAll("details").forEach(d => d.open = true);
      const found = {};
      const texts = "p, h1, h2, h3, dt, dd, li, a, th, td, td span, code, figcaption, button";
      for (const e of document.querySelectorAll(texts)) {
        if (!e.innerText?.trim() || e.className === "announced" || e.className === "skip") continue;
        const on = plain(behind(e), paper);
        found[[getComputedStyle(e).color, on]] ??= [plain(getComputedStyle(e).color, on), on, e.outerHTML.slice(0, 90)];
      }
      return Object.values(found);
    })()"""
    for dark in (False, True):
        browser.open(path, dark=dark)
        pairs = browser.evaluate(script)
        assert len(pairs) > 5
        for colour, on, what in pairs:
            assert contrast(colour, on) >= 4.5, (dark, colour, on, what)


def test_labels_in_figures_do_not_lie_on_each_other(browser, path):
    """Of the text in every drawing but the cells of the matrix, no two boxes share more than their edges."""
    browser.open(path)
    overlaps = browser.evaluate(
        """[...document.querySelectorAll("svg")].flatMap(svg => {
          const boxes = [...svg.querySelectorAll("text")].filter(t => t.textContent.trim())
            .map(t => [t.textContent, t.getBoundingClientRect()]);
          return boxes.flatMap(([a, r], i) => boxes.slice(i + 1).filter(([b, s]) =>
            Math.min(r.right, s.right) - Math.max(r.left, s.left) > 3
            && Math.min(r.bottom, s.bottom) - Math.max(r.top, s.top) > 6).map(([b]) => [a, b]));
        })"""
    )
    assert overlaps == []


def test_nothing_in_a_figure_is_cut_off(browser, path):
    browser.open(path)
    outside = browser.evaluate(
        """[...document.querySelectorAll("svg")].flatMap(svg => { const r = svg.getBoundingClientRect();
          return [...svg.querySelectorAll("text")].filter(t => { const s = t.getBoundingClientRect();
            return s.width && (s.left < r.left - 2 || s.right > r.right + 2 || s.top < r.top - 2
              || s.bottom > r.bottom + 2); }).map(t => t.textContent); })"""
    )
    assert outside == []


def test_tables_sort_by_click(browser, path):
    browser.open(path)
    assert browser.evaluate(SORTED_BY) == [["balanced accuracy", "descending"]]
    scores = browser.evaluate(COLUMN % 1)
    assert scores == sorted(scores, reverse=True)
    browser.click("#scores th:nth-child(2) button")
    assert browser.evaluate(COLUMN % 1) == sorted(scores)
    assert browser.evaluate(SORTED_BY) == [["balanced accuracy", "ascending"]]
    assert "ascending" in browser.evaluate("document.querySelector('.announced').textContent")
    browser.click("#scores th:nth-child(1) button")
    names = browser.evaluate(COLUMN % 0)
    assert names == sorted(names, key=str.lower) and browser.evaluate(SORTED_BY) == [["encoder", "ascending"]]


def test_what_is_empty_is_last_in_either_direction(browser, path):
    browser.open(path)
    # By ascending balanced accuracy the baselines, which have no accuracy here, come first.
    browser.click("#scores th:nth-child(2) button")
    assert browser.evaluate(COLUMN % 4)[:2] == ["", ""]
    for order in ("descending", "ascending"):
        browser.click("#scores th:nth-child(5) button")
        assert browser.evaluate(SORTED_BY) == [["accuracy", order]]
        cells = browser.evaluate(COLUMN % 4)
        assert cells[-2:] == ["", ""] and "" not in cells[:-2]
        assert cells[:-2] == sorted(cells[:-2], reverse=order == "descending")


def test_tables_sort_by_keyboard(browser, path):
    browser.open(path)
    browser.evaluate("document.querySelector('#scores th:nth-child(3) button').focus()")
    browser.press("Tab", 9)
    assert browser.evaluate("document.activeElement.innerText.trim()") == "macro F1"
    for key, order in ((("Enter", 13, "\r"), "descending"), ((" ", 32, " "), "ascending")):
        browser.press(*key)
        assert browser.evaluate(SORTED_BY) == [["macro F1", order]]
    cells = browser.evaluate(COLUMN % 3)
    assert cells == sorted(cells)


def test_it_is_read_without_script(browser, path):
    browser.open(path, script=False)
    # Scripts of the page do not run; those of the protocol do.
    told = browser.call("DOM.getDocument", depth=-1)
    text = json.dumps(told)
    assert "resolved on this test set" in text and '"BUTTON"' not in text and '"DETAILS"' in text
    pages = pdf_text(browser.pdf())
    if pages is not None:
        assert "Operating points" in pages


def test_commands_are_copied(browser, path):
    browser.open(path)
    browser.evaluate("window.copied = []; navigator.clipboard.writeText = async (text) => { copied.push(text); }")
    browser.click("#reproduce .copy")
    assert browser.evaluate("copied") == [made_content()["commands"][0]]
    assert browser.evaluate("document.querySelector('#reproduce .copy').textContent") == "Copied"


def test_paper_has_what_is_folded(browser, path):
    browser.open(path)
    shut = "[...document.querySelectorAll('details')].filter(d => d.open).length"
    assert browser.evaluate(shut) == 0
    printed = browser.pdf()
    assert printed.startswith(b"%PDF") and len(printed) > 100_000
    # As it was on screen.
    assert browser.evaluate(shut) == 0
    text = pdf_text(printed)
    if text is not None:
        for arm in made_content()["arms"]:
            assert not arm.get("card") or f"Clinical card: {arm['name']}" in text
        assert text.count("Operating points, read off") == 6 and "SVG" not in text and "Copy" not in text


def pdf_text(data: bytes) -> str | None:
    """The words of a PDF; None where the program that reads it is not there."""
    import shutil
    import subprocess

    if shutil.which("pdftotext") is None:
        return None
    told = subprocess.run(["pdftotext", "-", "-"], input=io.BytesIO(data).read(), capture_output=True, check=True)
    return re.sub(r"\s+", " ", told.stdout.decode())


def luminance(colour: str) -> float:
    """WCAG's, of "rgb(r, g, b)"."""
    parts = [float(part) / 255 for part in re.findall(r"[\d.]+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear))


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)
