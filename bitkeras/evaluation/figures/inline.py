"""An SVG file of Matplotlib's as part of a page: named, in the page's type, light or dark as the page is."""

from __future__ import annotations

import re

from bitkeras.evaluation.figures.canvas import COLOURS, FAINT, INK, MUTED, PAPER
from bitkeras.evaluation.markup import Markup, tag

# Colours that the page's style sheet sets anew; they are written there under these names.
PAGE_COLOURS = {
    **{INK: "ink", MUTED: "muted", FAINT: "rule", PAPER: "paper"},
    **{colour: f"figure-{index}" for index, colour in enumerate(COLOURS)},
}
_COLOUR = re.compile(r"(?<=[:] )(" + "|".join(PAGE_COLOURS) + r")\b", re.IGNORECASE)


def inline_svg(text: str, name: str, alt: str) -> Markup:
    """The drawing as an element.

    Args:
      text: of the SVG file.
      name: put before its ids, which else are the same in every figure of the page.
      alt: what it shows, for who does not see it.
    """
    opening, body = re.search(r"<svg\b([^>]*)>(.*)</svg>", text, re.DOTALL).groups()
    view_box = re.search(r'viewBox="([^"]+)"', opening).group(1)
    width, height = (float(number) for number in view_box.split()[2:])
    # The style sheet inside holds for the whole page; the page has its own for figures.
    body = re.sub(r"<metadata>.*?</metadata>|<style\b.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    # Most ids name groups that nothing refers to, and some stand twice; the others stand in a page of many figures.
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', body))
    body = re.sub(
        r' id="([^"]+)"', lambda found: f' id="{name}-{found.group(1)}"' if found.group(1) in used else "", body
    )
    body = re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", body)
    body = _COLOUR.sub(lambda found: f"var(--{PAGE_COLOURS[found.group(1).lower()]})", body)
    return tag(
        "svg",
        Markup(body),
        viewBox=view_box,
        width=f"{width:.0f}",
        height=f"{height:.0f}",
        role="img",
        aria_label=alt,
        xmlns="http://www.w3.org/2000/svg",
        **{"xmlns:xlink": "http://www.w3.org/1999/xlink"},
    )
