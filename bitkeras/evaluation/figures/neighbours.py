"""Sample images with the images whose features are nearest."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from bitkeras.evaluation.figures.canvas import COLOURS, INK, MUTED, WIDTH, drawn, save, shortened

_AGREES, _DIFFERS = COLOURS[0], COLOURS[1]


def plot_neighbours(rows: Sequence[Mapping], folder: Path) -> None:
    """One line a query: the image, then those found with their class and cosine.

    Args:
      rows: query and found, as in the report's content; each image has class and png, those found cosine.
      folder: gets neighbours.svg and neighbours.png.
    """
    columns = 1 + max(len(row["found"]) for row in rows)
    # Wider between the query and what was found than among these.
    widths = [1.0, 0.18, *[1.0] * (columns - 1)]
    cell = min(WIDTH / sum(widths), 1.2)
    height = 0.34 + len(rows) * (cell + 0.26)
    with drawn(WIDTH, height) as figure:
        right = min(0.995, cell * sum(widths) / WIDTH)
        edges = {"left": 0.005, "right": right, "top": 1 - 0.3 / height, "bottom": 0.3 / height}
        grid = figure.add_gridspec(
            len(rows), len(widths), width_ratios=widths, wspace=0.07, hspace=0.3 / cell * 1.05, **edges
        )
        for line, row in enumerate(rows):
            query = row["query"]
            axes = _picture(figure.add_subplot(grid[line, 0]), query, shortened(query["class"], 16), INK)
            if line == 0:
                axes.set_title("test image", color=MUTED, fontsize=8.4, fontweight="normal", pad=5)
            for place, found in enumerate(row["found"]):
                agrees = found["class"] == query["class"]
                told = f"{'=' if agrees else '≠'} {shortened(found['class'], 9)}  {found['cosine']:.2f}"
                axes = figure.add_subplot(grid[line, 2 + place])
                _picture(axes, found, told, _AGREES if agrees else _DIFFERS)
                if line == 0 and place == 0:
                    axes.set_title(
                        "nearest labelled images, class and cosine",
                        color=MUTED,
                        fontsize=8.4,
                        fontweight="normal",
                        pad=5,
                    )
        save(figure, folder, "neighbours")


def _picture(axes, image: Mapping, told: str, colour: str):
    from PIL import Image

    with Image.open(io.BytesIO(image["png"])) as held:
        axes.imshow(held.convert("RGB"), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set(visible=True, color=colour, linewidth=1.6)
    axes.set_xlabel(told, color=INK, fontsize=7.8, labelpad=3)
    return axes
