"""Confusion matrix: shares of each true class by colour, counts in the cells."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bitkeras.evaluation.figures.canvas import MUTED, PAPER, SEQUENCE, WIDTH, drawn, save, shortened

# More cells than these have no room for numbers.
MOST_NUMBERED = 16
# Not the ink of the page, which turns light on a dark one while the cells stay as they are.
_ON_LIGHT, _ON_DARK = "#1d1c19", "#fefefe"


def plot_confusion(card: Mapping, folder: Path, name: str = "confusion") -> None:
    """Rows are true classes.

    Args:
      card: a clinical card.
      folder, name: the figure is `folder`/`name`.svg and .png.
    """
    from matplotlib.colors import LinearSegmentedColormap

    names, counts = card["class_names"], np.asarray(card["confusion"], float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-12)
    size = min(4.8, 0.9 + 0.56 * len(names))
    # Upright names of many classes need more room above than level ones.
    high = size + (1.6 if _is_crowded(names) else 0.95)
    with drawn(WIDTH, high) as figure:
        axes = figure.add_axes([0.2, 0.25 / high, size / WIDTH, size / high])
        colours = LinearSegmentedColormap.from_list("share", SEQUENCE)
        mesh = axes.pcolormesh(
            shares,
            cmap=colours,
            vmin=0,
            vmax=1,
            edgecolors=PAPER,
            linewidth=1.4 if len(names) < 40 else 0,
            # Of a hundred classes there are ten thousand cells.
            rasterized=len(names) > 30,
        )
        axes.invert_yaxis()
        _name_axes(axes, names)
        if len(names) <= MOST_NUMBERED:
            _number(axes, counts, shares)
        bar = figure.colorbar(mesh, cax=figure.add_axes([0.2 + size / WIDTH + 0.035, 0.25 / high, 0.018, size / high]))
        bar.outline.set_visible(False)
        bar.set_ticks([0, 0.25, 0.5, 0.75, 1], labels=["0", "25", "50", "75", "100 %"])
        bar.ax.grid(visible=False)
        bar.ax.annotate(
            "share of\ntrue class",
            (0, 1),
            (0, 7),
            xycoords="axes fraction",
            textcoords="offset points",
            color=MUTED,
            fontsize=8.2,
        )
        save(figure, folder, name)


def _name_axes(axes, names) -> None:
    step = -(-len(names) // 30)
    places = np.arange(0, len(names), step)
    labels = [shortened(names[place], 14) for place in places]
    crowded = _is_crowded(names)
    axes.set_xticks(places + 0.5, labels, rotation=55 if crowded else 0, ha="left" if crowded else "center")
    axes.set_yticks(places + 0.5, labels)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0, labelsize=8.8 if len(places) <= 16 else 7)
    axes.set_xlabel("answer", labelpad=6, color=MUTED)
    axes.set_ylabel("true class", labelpad=8, color=MUTED)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)


def _is_crowded(names) -> bool:
    return len(names) > 9 or max(map(len, names)) > 8


def _number(axes, counts: np.ndarray, shares: np.ndarray) -> None:
    for (row, column), count in np.ndenumerate(counts):
        told = f"{count:.0f}" if abs(count - round(count)) < 0.05 else f"{count:.1f}"
        axes.text(
            column + 0.5,
            row + 0.5,
            told,
            ha="center",
            va="center",
            fontsize=9 if len(counts) < 10 else 7.4,
            color=_ON_DARK if shares[row, column] > 0.55 else _ON_LIGHT,
            fontweight="bold" if row == column else "normal",
        )
