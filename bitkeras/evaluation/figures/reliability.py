"""Reliability diagram: how often an answer is right, by how sure it is, before and after temperature scaling."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bitkeras.evaluation.figures.canvas import COLOURS, INK, MUTED, WIDTH, drawn, head, save


def plot_reliability(card: Mapping, folder: Path, name: str = "reliability") -> None:
    """Two diagrams, each with the number of images of its bins below.

    Args:
      card: a clinical card.
      folder, name: the figure is `folder`/`name`.svg and .png.
    """
    calibration = card["calibration"]
    with drawn(WIDTH, 4.3) as figure:
        grid = figure.add_gridspec(
            2, 2, left=0.065, right=0.972, top=0.86, bottom=0.11, height_ratios=[3.4, 1], hspace=0.34, wspace=0.16
        )
        most = max(row["count"] for when in ("before", "after") for row in calibration[when]["bins"])
        for column, when in enumerate(("before", "after")):
            error = calibration[when]["ece"]["value"]
            told = "Before" if when == "before" else f"After (temperature {calibration['temperature']:.2f})"
            upper, lower = (figure.add_subplot(grid[row, column]) for row in (0, 1))
            _diagram(upper, calibration[when]["bins"])
            head(upper, told, "fraction of answers that are right")
            upper.annotate(f"ECE {error:.3f}", (0.03, 0.9), xycoords="axes fraction", fontsize=10, fontweight="bold")
            _sizes(lower, calibration[when]["bins"], most)
        save(figure, folder, name)


def _diagram(axes, bins) -> None:
    axes.plot([0, 1], [0, 1], color=INK, linestyle=(0, (2, 2)), linewidth=0.9, zorder=2)
    held = [row for row in bins if row["count"]]
    for row in held:
        axes.plot(
            [row["confidence"]] * 2,
            [row["confidence"], row["accuracy"]],
            color=COLOURS[1],
            linewidth=3,
            alpha=0.45,
            zorder=1,
            solid_capstyle="butt",
        )
    axes.plot(
        [row["confidence"] for row in held],
        [row["accuracy"] for row in held],
        "o-",
        color=COLOURS[0],
        markersize=4.6,
        linewidth=1.2,
        zorder=3,
    )
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], [""] * 5)


def _sizes(axes, bins, most: int) -> None:
    width = bins[0]["high"] - bins[0]["low"]
    axes.bar(
        [row["low"] + width / 2 for row in bins],
        [row["count"] for row in bins],
        width * 0.86,
        color=MUTED,
        alpha=0.55,
        linewidth=0,
    )
    axes.set(xlim=(0, 1), ylim=(0, most * 1.05), xlabel="probability of the answer", xticks=[0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.get_major_locator().set_params(nbins=2, integer=True)
    axes.annotate(
        "images", (0, 1), (0, 3), xycoords="axes fraction", textcoords="offset points", color=MUTED, fontsize=8.2
    )
