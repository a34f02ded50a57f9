from html.parser import HTMLParser

import pytest

from bitkeras.evaluation.markup import Markup, joined, tag

NASTY = """</td><script>alert("x")</script> & 'a' < b"""


def test_text_comes_back_as_it_was():
    read = []
    parser = HTMLParser()
    parser.handle_data = read.append
    parser.feed(tag("p", NASTY))
    assert "".join(read) == NASTY and "<script" not in tag("p", NASTY)


def test_attributes_come_back_as_they_were():
    read = []
    parser = HTMLParser()
    parser.handle_starttag = lambda name, attributes: read.append((name, dict(attributes)))
    parser.feed(tag("p", class_=NASTY, data_key=1.5, open=True, hidden=False, title=None))
    assert read == [("p", {"class": NASTY, "data-key": "1.5", "open": None})]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (("a", None, 1, 0.5), "<p>a10.5</p>"),
        ((["a", ["<", Markup("<b>")]],), "<p>a&lt;<b></p>"),
        ((tag("em", "x"), "&"), "<p><em>x</em>&amp;</p>"),
        ((), "<p></p>"),
    ],
)
def test_contents(content, expected):
    assert tag("p", *content) == expected


def test_markup_joined_with_text_is_text_again():
    """What is put together by other means than `tag` is escaped, not trusted."""
    assert tag("p", Markup("<b>") + NASTY) == tag("p", str("<b>" + NASTY))
    assert joined(["<", tag("meta", charset="utf-8")]) == '&lt;<meta charset="utf-8">'
