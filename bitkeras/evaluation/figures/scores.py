"""Test scores as dots with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bitkeras.evaluation.figures.canvas import FAINT, INK, MUTED, WIDTH, Look, drawn, save
from bitkeras.evaluation.figures.labels import name_rows, note_row

METRIC = "balanced_accuracy"
KNN = "knn_balanced_accuracy"
_ROW = 0.37


def plot_scores(
    arms: Sequence[Mapping], looks: Mapping[str, Look], folder: Path, *, chance: float | None = None
) -> None:
    """Balanced accuracy of every arm and baseline, best on top, with what is known of interval, runs and kNN.

    Args:
      arms: with id, name, baseline and scores, as in the report's content; those without a score are left out.
      looks: arm -> look.
      folder: gets scores.svg and scores.png.
      chance: 1 / K, drawn as a line.
    """
    arms = [arm for arm in arms if value_of(arm) is not None]
    arms = sorted(arms, key=lambda arm: (not arm.get("baseline"), value_of(arm)))
    height = 1.0 + _ROW * len(arms)
    with drawn(WIDTH, height) as figure:
        top, bottom = 1 - 0.42 / height, 0.52 / height
        axes = figure.add_axes([0.33, bottom, 0.545, top - bottom])
        for row, arm in enumerate(arms):
            _mark(axes, row, arm, looks[arm["id"]])
        axes.set(ylim=(-0.6, len(arms) - 0.4), xlabel="balanced accuracy on the test part (fraction)")
        name_rows(axes, [arm["name"] for arm in arms], [MUTED if arm.get("baseline") else INK for arm in arms])
        axes.margins(x=0.04)
        axes.grid(axis="y", visible=False)
        if chance is not None:
            axes.axvline(chance, color=INK, linestyle=(0, (2, 2)), linewidth=0.9, zorder=1)
        axes.legend(
            handles=_legend(arms, chance),
            loc="lower left",
            bbox_to_anchor=(-0.02, 1.0),
            ncols=4,
            fontsize=8.2,
            handletextpad=0.5,
            columnspacing=1.5,
        )
        save(figure, folder, "scores")


def value_of(arm: Mapping) -> float | None:
    """The balanced accuracy of an arm."""
    return (arm["scores"].get(METRIC) or {}).get("value")


def _mark(axes, row: int, arm: Mapping, how: Look) -> None:
    score, knn = arm["scores"][METRIC], arm["scores"].get(KNN) or {}
    if score.get("interval"):
        axes.plot(score["interval"], [row, row], color=how.colour, linewidth=5, alpha=0.28, zorder=2)
    if arm.get("num_runs", 1) > 1:
        runs = [value for value in score.get("trials") or [] if value is not None]
        axes.plot(runs, [row] * len(runs), "|", color=how.colour, markersize=11, markeredgewidth=1, zorder=3)
    axes.plot(score["value"], row, how.marker, color=how.colour, markersize=6.6, zorder=4)
    if knn.get("value") is not None:
        axes.plot(knn["value"], row, "o", markerfacecolor="none", markeredgecolor=how.colour, markersize=5.4, zorder=3)
    weight = "normal" if arm.get("baseline") else "bold"
    note_row(axes, row, f"{score['value']:.3f}", offset=10, fontsize=9.2, fontweight=weight)


def _legend(arms: Sequence[Mapping], chance: float | None) -> list:
    """One handle per kind of mark that is drawn."""
    from matplotlib.lines import Line2D

    has_runs = any(arm.get("num_runs", 1) > 1 and len(arm["scores"][METRIC].get("trials") or []) > 1 for arm in arms)
    kinds = [
        (any(arm["scores"][METRIC].get("interval") for arm in arms), "score, 95 % interval", "o", "-", 5, MUTED),
        (has_runs, "one seed", "|", "", 1, INK),
        (any((arm["scores"].get(KNN) or {}).get("value") is not None for arm in arms), "kNN", "o", "", 1, "none"),
        (chance is not None, f"chance {chance or 0:.3f}", None, (0, (2, 2)), 0.9, INK),
    ]
    return [
        Line2D(
            *([], []),
            **{"color": FAINT if width == 5 else MUTED, "linewidth": width, "linestyle": dash or "none"},
            **{"marker": marker, "markersize": 6, "markerfacecolor": face, "markeredgecolor": MUTED},
            label=label,
        )
        for is_drawn, label, marker, dash, width, face in kinds
        if is_drawn
    ]
