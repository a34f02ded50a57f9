"""Curves over the epochs of pre-training: each arm a line, with a band over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bitkeras.evaluation.figures.canvas import WIDTH, Look, drawn, head, plain, save
from bitkeras.evaluation.figures.labels import chance_line, label_ends

# Key in metrics.jsonl -> title and unit.
KNN = ("knn_balanced_accuracy", "Nearest neighbours on frozen features", "kNN balanced accuracy (fraction)")
LOSS = ("loss", "Training loss", "loss (negative cosine for SimSiam)")
SPREAD = ("spread", "Spread of the features", "std of normalised features (0 = collapsed)")
RANK = ("rankme", "Effective rank of the features", "RankMe (1 = collapsed)")


def plot_training(
    arms: Sequence[Mapping],
    looks: Mapping[str, Look],
    folder: Path,
    name: str,
    *,
    panels: Sequence[tuple[str, str, str]] = (KNN, LOSS),
) -> None:
    """One panel below the other, for each of `panels` that any arm has values of.

    Args:
      arms: with id, name and curves, as in the report's content.
      looks: arm -> look.
      folder, name: the figure is `folder`/`name`.svg and .png.
      panels: key, title and unit.
    """
    panels = [panel for panel in panels if any(curve(arm, panel[0]) for arm in arms)]
    height = 0.5 + 2.45 * len(panels)
    with drawn(WIDTH, height) as figure:
        grid = {"left": 0.06, "right": 0.7, "top": 1 - 0.42 / height, "bottom": 0.42 / height, "hspace": 0.46}
        for row, panel in enumerate(panels):
            axes = figure.add_subplot(figure.add_gridspec(len(panels), 1, **grid)[row])
            _panel(axes, arms, looks, panel)
            if row == len(panels) - 1:
                axes.set_xlabel("epoch of pre-training")
        save(figure, folder, name)


def plot_collapse(arms: Sequence[Mapping], looks: Mapping[str, Look], folder: Path) -> None:
    """Two networks side by side: kNN, loss and spread (figure 1 of the seed paper)."""
    panels = [panel for panel in (KNN, LOSS, SPREAD) if any(curve(arm, panel[0]) for arm in arms)]
    titles = {KNN[0]: "kNN", LOSS[0]: "Loss", SPREAD[0]: "Spread"}
    units = {KNN[0]: "balanced accuracy", LOSS[0]: "negative cosine", SPREAD[0]: "std, 0 = collapsed"}
    with drawn(WIDTH, 3.15) as figure:
        grid = figure.add_gridspec(1, len(panels), left=0.065, right=0.985, top=0.71, bottom=0.15, wspace=0.26)
        for column, (key, *_) in enumerate(panels):
            axes = figure.add_subplot(grid[column])
            _lines(axes, arms, looks, key)
            head(axes, titles[key], units[key])
            axes.set_xlabel("epoch")
        handles = [_handle(arm["name"], looks[arm["id"]]) for arm in arms]
        figure.legend(handles=handles, loc="upper left", bbox_to_anchor=(0.045, 1.0), ncols=len(handles), fontsize=9)
        save(figure, folder, "collapse")


def curve(arm: Mapping, key: str) -> dict[int, list[float]]:
    """Epoch -> the values of the seeds that have a finite one."""
    found: dict[int, list[float]] = {}
    for rows in arm.get("curves") or []:
        for row in rows:
            if row.get(key) is not None and np.isfinite(row[key]):
                found.setdefault(int(row["epoch"]), []).append(row[key])
    return dict(sorted(found.items()))


def _panel(axes, arms, looks, panel) -> None:
    key, title, unit = panel
    ends = _lines(axes, arms, looks, key)
    head(axes, title, unit)
    label_ends(axes, ends, x=1.045)


def _lines(axes, arms, looks, key) -> list:
    """Draws the arms; returns where each line ends."""
    ends, last = [], 1
    for arm in arms:
        values, how = curve(arm, key), looks[arm["id"]]
        if not values:
            continue
        epochs, means = list(values), [np.mean(held) for held in values.values()]
        # A run of one epoch would otherwise draw nothing.
        marker = how.marker if len(epochs) < 6 else None
        axes.plot(epochs, means, color=how.colour, linestyle=how.dash, marker=marker, markersize=4)
        if max(map(len, values.values())) > 1:
            low, high = ([limit(held) for held in values.values()] for limit in (min, max))
            axes.fill_between(epochs, low, high, color=how.colour, alpha=0.16, linewidth=0)
        ends.append((epochs[-1], means[-1], arm["name"], how))
        last = max(last, epochs[-1])
    axes.set_xlim(0, last * 1.01)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="x", visible=False)
    axes.margins(y=0.08)
    # That of the images that were looked at while training; a probe can be of others.
    chances = {value for arm in arms for values in curve(arm, "knn_chance").values() for value in values}
    if key == KNN[0] and len(chances) == 1:
        chance_line(axes, *chances)
    return ends


def _handle(name: str, how: Look):
    from matplotlib.lines import Line2D

    return Line2D([], [], color=how.colour, linestyle=how.dash, label=plain(name))
