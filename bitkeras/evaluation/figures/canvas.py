"""What all figures share: colours, type, axes, and a file in two forms.

Matplotlib's object interface only: no pyplot, so nothing global changes and no display is needed.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path

from bitkeras.files import written_atomically

# Okabe and Ito (2008), told apart with every common kind of colour blindness; their yellow is left out, being too faint
# on white. The strongest come first. Markers and dashes say the same once more, and go on where the colours end.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b5b5b")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", (0, (5, 1.6)), (0, (1.4, 1.4)), (0, (7, 1.6, 1.4, 1.6)), (0, (3, 1.2)), "-", (0, (5, 1.6)))
INK, MUTED, FAINT, PAPER = "#21201c", "#6b675f", "#d9d4c9", "#fdfcf9"
# Lightest to darkest, one hue: a matrix in it is read in grey too.
SEQUENCE = ("#f3f1ea", "#cfdde6", "#93b9d2", "#4a8db7", "#0f6499", "#073a63")
# Inches; a page is some 720 px wide, so that a point is some 1.4 px.
WIDTH = 7.2

_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8.6,
    "axes.labelsize": 8.6,
    "axes.titlesize": 9.4,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.2,
    "ytick.labelsize": 8.2,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    # Text stays text: it is small, can be searched, read aloud, and set in the type of the page.
    "svg.fonttype": "none",
    # The same content gives the same file.
    "svg.hashsalt": "bitkeras",
}


@dataclasses.dataclass(frozen=True)
class Look:
    """How an arm or a class is drawn, the same in every figure."""

    colour: str
    marker: str
    dash: str | tuple


def look(index: int) -> Look:
    """The look of the arm, or class, of this number; 49 of them differ."""
    position, turn = index % len(COLOURS), index // len(COLOURS)
    return Look(COLOURS[position], MARKERS[(position + turn) % 7], DASHES[(position + turn) % 7])


@contextlib.contextmanager
def drawn(width: float, height: float) -> Iterator:
    """A figure of width x height inches on an Agg canvas, in the style of the report while the block runs."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), dpi=150)
        FigureCanvasAgg(figure)
        yield figure


def save(figure, folder: Path, name: str) -> None:
    """Writes `name`.svg and `name`.png, each whole or not at all; call it while the style holds."""
    with written_atomically(folder / f"{name}.svg") as beside:
        figure.savefig(beside, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    with written_atomically(folder / f"{name}.png") as beside:
        figure.savefig(beside, format="png", facecolor=PAPER)


def plain(name: str) -> str:
    """`name` as text: what stands between two dollar signs would be set as mathematics."""
    return str(name).replace("$", r"\$")


def shortened(name: str, length: int = 34) -> str:
    """`name`; where a figure has no room for more its middle is left out, since names often differ at the end."""
    if len(name) <= length:
        return plain(name)
    end = (length - 1) // 2
    return plain(name[: length - 1 - end].rstrip() + "…" + name[-end:].lstrip())


def head(axes, title: str, unit: str) -> None:
    """A panel's title, and below it what its y axis measures; upright, as it is read."""
    axes.set_title(plain(title), pad=20, color=INK)
    axes.annotate(
        plain(unit), (0, 1), (0, 8), xycoords="axes fraction", textcoords="offset points", color=MUTED, fontsize=8.2
    )
