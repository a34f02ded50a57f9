"""PNG figures. Matplotlib's object interface only: no pyplot, so nothing global changes and no display is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bitkeras.files import written_atomically

# Okabe and Ito (2008), told apart with every common kind of colour blindness; their yellow is left out, being
# too faint on white. Beyond seven classes the colours repeat with another marker.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
_MARKERS = ("o", "^", "s", "D", "v", "P")
_GREY = "#666666"

# One panel each: (title, y label with unit, {key in metrics.jsonl: (name in the legend, line style)}).
_PANELS = (
    ("Training loss", "loss", {"loss": ("loss", "-")}),
    (
        "Nearest neighbours on frozen features",
        "balanced accuracy (fraction)",
        {"knn_balanced_accuracy": ("kNN", "-"), "knn_chance": ("chance", "--")},
    ),
    (
        "Collapse figures of backbone features",
        "dimensionless",
        {
            "spread": ("spread (0 = collapsed)", "-"),
            "mean_pairwise_cosine": ("mean pairwise cosine (1 = collapsed)", "-"),
        },
    ),
    ("Effective rank of backbone features", "RankMe (1 = collapsed)", {"rankme": ("RankMe", "-")}),
    ("Learning rate", "learning rate", {"lr": ("learning rate", "-")}),
    ("Throughput", "images per second", {"images_per_second": ("images per second", "-")}),
)


def plot_curves(metrics_rows: Sequence[dict], path: str | Path) -> None:
    """The course of a pre-training run, one panel per kind of figure that stands in the rows.

    Args:
      metrics_rows: rows of `metrics.jsonl`, with `epoch` and any of loss, lr, images_per_second,
        knn_balanced_accuracy, knn_chance, spread, mean_pairwise_cosine, rankme; a key may be
        absent from some rows or all.
      path: PNG to write.
    """
    panels = [panel for panel in _PANELS if any(_points(metrics_rows, key)[0] for key in panel[2])]
    columns = min(2, max(1, len(panels)))
    lines = max(1, -(-len(panels) // columns))
    figure = _figure(5.2 * columns, 3.1 * lines)
    for position, (title, unit, series) in enumerate(panels, start=1):
        axes = figure.add_subplot(lines, columns, position)
        for number, (key, (name, style)) in enumerate(series.items()):
            epochs, values = _points(metrics_rows, key)
            # Dots only where few: a run of one epoch would otherwise draw nothing.
            marker = "o" if len(epochs) < 20 and style == "-" else None
            colour = COLOURS[number] if style == "-" else _GREY
            if epochs and style == "--" and len(epochs) == 1:
                axes.axhline(values[0], color=colour, linestyle=style, label=name)
            elif epochs:
                axes.plot(epochs, values, style, color=colour, label=name, marker=marker, markersize=3.5)
        axes.set(title=title, xlabel="epoch", ylabel=unit)
        axes.xaxis.get_major_locator().set_params(integer=True)
        # The same epochs in every panel; a single one would otherwise get ticks at 0.96 and 1.04.
        axes.set_xlim(0, max(row["epoch"] for row in metrics_rows) + 1)
        axes.margins(y=0.12)
        _tidy(axes)
        if len(axes.get_legend_handles_labels()[1]) > 1:
            axes.legend(fontsize=8, framealpha=0.9)
    _save(figure, path)


def _points(rows: Sequence[dict], key: str) -> tuple[list, list]:
    """Epochs and finite values of the rows that have `key`."""
    found = [(row["epoch"], row[key]) for row in rows if row.get(key) is not None and np.isfinite(row[key])]
    return [epoch for epoch, _ in found], [value for _, value in found]


def plot_tsne(points: np.ndarray, labels: np.ndarray, class_names: Sequence[str], path: str | Path) -> None:
    """A t-SNE map coloured by class.

    Args:
      points: float [N, 2].
      labels: int [N] in [0, K).
      class_names: K names.
      path: PNG to write.
    """
    labels = np.asarray(labels)
    counts = np.bincount(labels, minlength=len(class_names))
    figure = _figure(7.4, 5.4)
    axes = figure.add_subplot()
    handles = {}
    # The commonest class first, so that the rare ones lie on top of it.
    for index in np.argsort(-counts, kind="stable"):
        of_class = points[labels == index]
        if len(of_class):
            label = f"{_plain(class_names[index])} ({counts[index]})"
            handles[index] = axes.scatter(*of_class.T, **_class_style(index, len(points)), label=label)
    axes.set(title="t-SNE of frozen features", xlabel="t-SNE dimension 1", ylabel="t-SNE dimension 2")
    # The axes have no unit and only nearness means anything, so numbers on them would mislead.
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(
        handles=[handles[index] for index in sorted(handles)],
        title="class (images)",
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        markerscale=1.6,
    )
    _save(figure, path)


def _class_style(index: int, num_points: int) -> dict:
    marker = _MARKERS[index // len(COLOURS) % len(_MARKERS)]
    size = float(np.clip(12000 / max(num_points, 1), 7, 36))
    return {"color": COLOURS[index % len(COLOURS)], "marker": marker, "s": size, "alpha": 0.75, "linewidths": 0}


def plot_scores(rows: Sequence[dict], path: str | Path, *, chance: float | None = None) -> None:
    """Balanced accuracy of several encoders as dots with 95 % intervals, best on top.

    Args:
      rows: as in `report.write_report`: name, balanced_accuracy, interval [low, high] (may be absent),
        knn_balanced_accuracy (may be absent), baseline (may be absent; True draws it grey).
      path: PNG to write.
      chance: 1 / K, drawn as a line.
    """
    rows = sorted(rows, key=lambda row: row["balanced_accuracy"])
    figure = _figure(7.6, 1.3 + 0.42 * len(rows))
    axes = figure.add_subplot()
    for height, row in enumerate(rows):
        colour = _GREY if row.get("baseline") else COLOURS[0]
        if row.get("interval"):
            axes.plot(row["interval"], [height, height], color=colour, linewidth=2.2, alpha=0.6, zorder=2)
        axes.plot(row["balanced_accuracy"], height, "o", color=colour, markersize=7, zorder=3)
        if row.get("knn_balanced_accuracy") is not None:
            axes.plot(row["knn_balanced_accuracy"], height, "D", color=COLOURS[3], markersize=5, zorder=3)
    if chance is not None:
        axes.axvline(chance, color="black", linestyle="--", linewidth=1, zorder=1)
    axes.set_yticks(range(len(rows)), [_plain(row["name"]) for row in rows])
    axes.set(xlabel="balanced accuracy (fraction)", ylim=(-0.6, len(rows) - 0.4))
    _tidy(axes)
    axes.grid(axis="y", visible=False)
    axes.legend(
        handles=_score_legend(rows, chance),
        loc="lower center",
        bbox_to_anchor=(0.4, 1.0),
        ncols=4,
        frameon=False,
        fontsize=9,
    )
    _save(figure, path)


def _score_legend(rows: Sequence[dict], chance: float | None) -> list:
    """One handle per kind of mark that is drawn."""
    from matplotlib.lines import Line2D

    kinds = [
        (any(not r.get("baseline") for r in rows), "encoder, 95 % interval", COLOURS[0], "o", "-"),
        (any(r.get("baseline") for r in rows), "baseline", _GREY, "o", "-"),
        (any(r.get("knn_balanced_accuracy") is not None for r in rows), "kNN", COLOURS[3], "D", ""),
        (chance is not None, f"chance {chance or 0:.3f}", "black", None, "--"),
    ]
    return [
        Line2D([], [], color=c, marker=m, linestyle=s, markersize=6, label=n) for drawn, n, c, m, s in kinds if drawn
    ]


def _figure(width: float, height: float):
    """A figure of width x height inches on an Agg canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _tidy(axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)


def _plain(name: str) -> str:
    # Matplotlib sets what stands between two dollar signs as mathematics.
    return name.replace("$", r"\$")


def _save(figure, path: str | Path) -> None:
    with written_atomically(path) as beside:
        figure.savefig(beside, format="png")
