"""Names beside lines and rows, none on another."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from bitkeras.evaluation.figures.canvas import INK, MUTED, Look, plain

# Points from line to line of a name in two lines.
_LINE = 10.0


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


def note_row(axes, row: int, text: str, *, offset: float, **style) -> None:
    """`text` right of the row of a chart, `offset` points from the axes; `style` as Matplotlib takes it."""
    axes.annotate(
        text,
        (1, row),
        (offset, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        annotation_clip=False,
        **style,
    )


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
