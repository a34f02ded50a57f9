"""What all figures share: colours, type, axes, and a file in two forms.

Matplotlib's object interface only: no pyplot, so nothing global changes and no display is needed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import textwrap
from collections.abc import Iterator, Sequence
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
# Points from line to line of a name in two lines.
_LINE = 10.0

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


def spread_apart(places: Sequence[float], gap: float, *, low: float, high: float) -> list[float]:
    """Places for labels near `places`, at least `gap` apart, in the same order, within [low, high] if they fit.

    Labels that are too close form a block, which stands around the mean of what its members asked for.
    """
    order = sorted(range(len(places)), key=lambda index: places[index])
    blocks: list[list] = []
    for index in order:
        blocks.append([places[index], 1])
        while len(blocks) > 1 and blocks[-1][0] - blocks[-2][0] < gap * (blocks[-1][1] + blocks[-2][1]) / 2:
            (centre, size), (before, count) = blocks.pop(), blocks.pop()
            blocks.append([(centre * size + before * count) / (size + count), size + count])
        # A block that would stick out is pushed inside, and may meet the one before it in the next turn.
        centre, size = blocks[-1]
        blocks[-1][0] = max(min(centre, high - gap * (size - 1) / 2), low + gap * (size - 1) / 2)
    found = [centre + gap * (place - (size - 1) / 2) for centre, size in blocks for place in range(size)]
    for place in range(len(found) - 2, -1, -1):
        found[place] = min(found[place], found[place + 1] - gap)
    return [found[order.index(index)] for index in range(len(places))]


def chance_line(axes, chance: float) -> None:
    """The level of guessing, named below the line, where what is better than it does not go."""
    axes.axhline(chance, color=INK, linestyle=(0, (2, 2)), linewidth=0.9)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, chance - 0.1 * (high - low)), high)
    axes.annotate(
        f"chance {chance:.3f}",
        (1, chance),
        (0, -3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=8,
        color=MUTED,
    )


def label_ends(axes, ends: Sequence[tuple[float, float, str, Look]], *, x: float) -> None:
    """Names right of where lines end, with their markers, none on another; call it when the limits are set.

    Args:
      axes: of the lines, with room right of them.
      ends: x, y, name and look of each line.
      x: where the names stand, as a fraction of the axes' width.
    """
    low, high = axes.get_ylim()
    height = axes.get_window_extent().height / axes.figure.dpi * 72
    names = [in_lines(name, 25) for *_, name, _ in ends]
    gap = (high - low) * (1.5 + _LINE * max(map(len, names), default=1)) / height
    places = spread_apart([y for _, y, *_ in ends], gap, low=low + gap / 2, high=high)
    for (end, y, _, how), lines, place in zip(ends, names, places):
        fraction = (place - low) / (high - low)
        arrow = {"arrowstyle": "-", "color": how.colour, "linewidth": 0.6, "shrinkA": 2, "shrinkB": 3}
        axes.annotate("", (end, y), (x, fraction), textcoords="axes fraction", arrowprops=arrow)
        axes.plot(x, fraction, how.marker, color=how.colour, markersize=4.6, transform=axes.transAxes, clip_on=False)
        _write(axes, lines, (x, fraction), 6, "axes fraction", ha="left", fontsize=8.4)


def name_rows(axes, names: Sequence[str], colours: Sequence[str]) -> None:
    """Names left of the rows 0, 1, ... of a chart, long ones in two lines."""
    axes.set_yticks(range(len(names)), [""] * len(names))
    for row, (name, colour) in enumerate(zip(names, colours)):
        where = ("axes fraction", "data")
        _write(axes, in_lines(name, 30), (0, row), -8, where, ha="right", fontsize=8.8, color=colour)


def in_lines(name: str, length: int) -> list[str]:
    """`name` in one line, or in two; of what is longer the middle is left out, since names often differ at the end."""
    lines = textwrap.wrap(name, length) or [""]
    if len(lines) > 2:
        words, end = name.split(), ""
        while words and len(words[-1]) + 1 + len(end) <= length - 2:
            end = f"{words.pop()} {end}".strip()
        lines = [lines[0], f"… {end or name[2 - length :]}"]
    return [plain(line) for line in lines]


def _write(axes, lines: Sequence[str], place: tuple, offset: float, where, **style) -> None:
    # Each line for itself: Matplotlib anchors lines of one text by the widths of its own type, which is not the page's.
    for number, line in enumerate(lines):
        down = _LINE * ((len(lines) - 1) / 2 - number) - 0.5
        how = {"xycoords": where, "textcoords": "offset points", "va": "center", "annotation_clip": False}
        axes.annotate(line, place, (offset, down), **how, **style)
