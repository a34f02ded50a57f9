"""t-SNE maps side by side (figures 4 and 5 of the seed paper)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bitkeras.evaluation.figures.canvas import INK, MUTED, WIDTH, Look, drawn, look, plain, save, shortened

_PANEL = 3.0


def plot_maps(
    maps: Sequence[Mapping], folder: Path, name: str, *, groups: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Test images as t-SNE laid them out, coloured by class, or by `groups` of classes.

    Args:
      maps: with title, points [N, 2], labels [N] in [0, K) and class_names [K].
      folder, name: the figure is `folder`/`name`.svg and .png.
      groups: name -> its classes; None: each class for itself.
    """
    class_names = maps[0]["class_names"]
    groups = {each: [each] for each in class_names} if groups is None else groups
    of_class = {each: at for at, members in enumerate(groups.values()) for each in members}
    columns = min(len(maps), 2)
    rows = -(-len(maps) // columns)
    # A single map has its names beside it, several have them below.
    # Points of type at 8.6: marker and gap, then the letters.
    num_columns = max(1, int(72 * WIDTH / (24 + 5.6 * min(20, max(map(len, groups))))))
    num_lines = -(-len(groups) // num_columns)
    size = _PANEL if columns > 1 else 4.2
    height = 0.45 + rows * (size + 0.3) + 0.24 * num_lines
    with drawn(WIDTH, height) as figure:
        grid = {"left": 0.03, "right": 0.99, "top": 1 - 0.3 / height, "bottom": (0.26 + 0.24 * num_lines) / height}
        grid = figure.add_gridspec(rows, columns, wspace=0.06, hspace=0.14, **grid)
        handles: dict[int, object] = {}
        looks = _looks(np.array([of_class.get(class_names[label], -1) for one in maps for label in one["labels"]]))
        for place, one in enumerate(maps):
            axes = figure.add_subplot(grid[place // columns, place % columns])
            kinds = np.array([of_class.get(class_names[label], -1) for label in one["labels"]])
            handles |= _scatter(axes, np.asarray(one["points"], float), kinds, looks)
            axes.set_title(plain(one["title"]), color=INK, pad=6)
        names = [*groups]
        figure.legend(
            [handles[kind] for kind in sorted(handles)],
            [shortened(names[kind], 20) for kind in sorted(handles)],
            loc="lower left",
            bbox_to_anchor=(0.0, 0.0),
            ncols=min(len(handles), num_columns),
            handletextpad=0.1,
            columnspacing=1.2,
            markerscale=1.5,
            fontsize=8.6,
        )
        save(figure, folder, name)


def _looks(kinds: np.ndarray) -> dict[int, Look]:
    """Kind -> look; of three and more the commonest is grey, or nothing else would be seen."""
    counts = np.bincount(kinds[kinds >= 0], minlength=1)
    common = int(counts.argmax()) if np.count_nonzero(counts) > 2 else -1
    others = [kind for kind in range(len(counts)) if kind != common]
    return {common: Look("#8d8a83", ".", "-"), **{kind: look(place) for place, kind in enumerate(others)}}


def _scatter(axes, points: np.ndarray, kinds: np.ndarray, looks: dict[int, Look]) -> dict[int, object]:
    """Draws the points; returns kind -> handle for the legend."""
    counts, handles = np.bincount(kinds[kinds >= 0], minlength=1), {}
    size = float(np.clip(15000 / max(len(points), 1), 5, 30))
    # The commonest first, so that the rare ones lie on top of it.
    for kind in np.argsort(-counts, kind="stable"):
        chosen, how = points[kinds == kind], looks[int(kind)]
        if len(chosen):
            handles[int(kind)] = axes.scatter(
                *chosen.T,
                s=size,
                color=how.colour,
                marker=how.marker,
                alpha=0.7,
                linewidths=0,
                # As pixels: thousands of marks as SVG are megabytes.
                rasterized=True,
            )
    # The axes have no unit and only nearness means anything, so numbers on them would mislead.
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel("t-SNE dimension 1 (no unit)", color=MUTED, fontsize=7.6, loc="left", labelpad=3)
    axes.set_ylabel("t-SNE dimension 2 (no unit)", color=MUTED, fontsize=7.6, loc="bottom", labelpad=3)
    axes.spines[["top", "right", "left"]].set_visible(True)
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(visible=False)
    return handles
