"""What labels and epochs buy: scores by number of labels, and epochs until a score is reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bitkeras.evaluation.figures.canvas import INK, WIDTH, Look, drawn, head, plain, save
from bitkeras.evaluation.figures.labels import chance_line, label_ends, name_rows, note_row


def plot_label_efficiency(
    rows: Sequence[Mapping],
    names: Mapping[str, str],
    looks: Mapping[str, Look],
    folder: Path,
    *,
    chance: float | None = None,
) -> None:
    """Balanced accuracy by number of labels, one line an arm.

    Args:
      rows: label_efficiency of the report's content.
      names, looks: arm -> name, arm -> look.
      folder: gets label_efficiency.svg and .png.
      chance: 1 / K.
    """
    with drawn(WIDTH, 3.5) as figure:
        axes = figure.add_axes([0.06, 0.13, 0.64, 0.71])
        ends, labels = [], sorted({point["num_labels"] for row in rows for point in row["points"]})
        for place, row in enumerate(rows):
            points = [point for point in row["points"] if point["score"]["value"] is not None]
            how = looks[row["arm"]]
            # Beside each other, where intervals would hide each other.
            x = [point["num_labels"] * 1.018 ** (place - (len(rows) - 1) / 2) for point in points]
            y = [point["score"]["value"] for point in points]
            for at, point in zip(x, points):
                if point["score"].get("interval"):
                    axes.plot([at, at], point["score"]["interval"], color=how.colour, linewidth=2.6, alpha=0.32)
            axes.plot(x, y, color=how.colour, linestyle=how.dash, marker=how.marker, markersize=5)
            if points:
                ends.append((x[-1], y[-1], names[row["arm"]], how))
        axes.set_xscale("log")
        axes.set_xticks(labels, [f"{count:,}" for count in labels])
        axes.minorticks_off()
        axes.set_xlabel("labelled images that the classifier was trained on (log scale)")
        axes.margins(y=0.08)
        if chance is not None:
            chance_line(axes, chance)
        axes.grid(axis="x", visible=False)
        head(axes, "Linear classifier on frozen features", "balanced accuracy on the test part (fraction)")
        label_ends(axes, ends, x=1.045)
        save(figure, folder, "label_efficiency")


def plot_epochs_to_target(found: Mapping, names: Mapping[str, str], looks: Mapping[str, Look], folder: Path) -> None:
    """Epochs until each arm reaches what another one ends with, one dot a seed.

    Args:
      found: epochs_to_target of the report's content.
      names, looks: arm -> name, arm -> look.
      folder: gets epochs_to_target.svg and .png.
    """
    rows = list(reversed(found["rows"]))
    height = 0.9 + 0.42 * len(rows)
    with drawn(WIDTH, height) as figure:
        axes = figure.add_axes([0.33, 0.5 / height, 0.5, 1 - 0.66 / height])
        most = max([1, *(epoch for row in rows for epoch in row["epochs"] if epoch is not None)])
        for place, row in enumerate(rows):
            how, reached = looks[row["arm"]], [epoch for epoch in row["epochs"] if epoch is not None]
            if reached:
                axes.plot([0, np.mean(reached)], [place, place], color=how.colour, linewidth=5, alpha=0.3)
                axes.plot(reached, [place] * len(reached), how.marker, color=how.colour, markersize=6, clip_on=False)
            note_row(axes, place, plain(_told(row, reached)), offset=8, fontsize=8.8)
        axes.set(xlim=(0, most * 1.03), ylim=(-0.6, len(rows) - 0.4), xlabel="epochs of pre-training")
        name_rows(axes, [names[row["arm"]] for row in rows], [INK] * len(rows))
        axes.grid(axis="y", visible=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        save(figure, folder, "epochs_to_target")


def _told(row: Mapping, reached: list) -> str:
    if not reached:
        return "not reached"
    seeds = "" if len(reached) == len(row["epochs"]) else f" ({len(reached)} of {len(row['epochs'])} seeds)"
    return f"{np.mean(reached):.0f}{seeds}" + (f", {row['speedup']:.1f}×" if row.get("speedup") else "")
