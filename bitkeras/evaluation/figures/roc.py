"""ROC curves, one small panel a class, with operating points in the first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bitkeras.evaluation.figures.canvas import COLOURS, FAINT, INK, MUTED, WIDTH, drawn, save, shortened

MOST_CLASSES = 11


def plot_roc(card: Mapping, folder: Path, name: str = "roc") -> None:
    """The class in focus large, with its operating points; the others small beside it.

    Args:
      card: a clinical card.
      folder, name: the figure is `folder`/`name`.svg and .png.
    """
    first, others = shown_classes(card)
    columns = 3 if len(others) > 4 else 2
    lines = max(2, -(-len(others) // columns))
    height = 3.6 if lines == 2 else 1.0 + 1.3 * lines
    with drawn(WIDTH, height) as figure:
        split = 0.43 if others else 0.6
        box = {"top": 1 - 0.5 / height, "bottom": 0.5 / height}
        axes = figure.add_subplot(figure.add_gridspec(1, 1, left=0.065, right=split, **box)[0])
        _curve(axes, card, first, linewidth=2.2)
        axes.set_anchor("N")
        _points(axes, card, first)
        axes.set_title(f"{shortened(first, 24)}  {_area(card, first)}", pad=20, fontsize=10, color=INK)
        axes.annotate("sensitivity", (0, 1), (0, 7), xycoords="axes fraction", textcoords="offset points", color=MUTED)
        axes.set_xlabel("1 − specificity")
        if others:
            grid = figure.add_gridspec(lines, columns, left=split + 0.085, right=0.99, wspace=0.22, hspace=0.36, **box)
            for place, each in enumerate(others):
                axes = figure.add_subplot(grid[place // columns, place % columns])
                _curve(axes, card, each, linewidth=1.6)
                axes.set_title(shortened(each, 13), pad=4, fontsize=8.4, color=INK)
                axes.annotate(_area(card, each), (0.96, 0.08), xycoords="axes fraction", ha="right", fontsize=8.2)
                axes.set(xticks=[0, 1], yticks=[0, 1])
                # Flush with the large panel above and below.
                axes.set_anchor("N" if place < columns else "S" if place // columns == lines - 1 else "C")
        save(figure, folder, name)


def shown_classes(card: Mapping) -> tuple[str, list[str]]:
    """The class of the large panel (the focus, or the first with a curve), and those of the small ones."""
    drawable = {name: curve for name, curve in card["curves"]["roc"].items() if curve["sensitivity"]}
    support = {row["name"]: row["support"] for row in card["classes"]}
    first = card["focus"] if card.get("focus") in drawable else next(iter(drawable))
    others = sorted((name for name in drawable if name != first), key=lambda name: -support[name])[: MOST_CLASSES - 1]
    return first, sorted(others, key=list(drawable).index)


def has_curves(card: Mapping | None) -> bool:
    """True where there is a curve to draw."""
    return bool(card) and any(curve["sensitivity"] for curve in card["curves"]["roc"].values())


def _curve(axes, card: Mapping, name: str, *, linewidth: float) -> None:
    axes.plot([0, 1], [0, 1], color=MUTED, linestyle=(0, (2, 2)), linewidth=0.8, zorder=1)
    curve = card["curves"]["roc"][name]
    axes.fill_between(curve["false_positive_rate"], curve["sensitivity"], color=COLOURS[0], alpha=0.09, linewidth=0)
    axes.plot(curve["false_positive_rate"], curve["sensitivity"], color=COLOURS[0], linewidth=linewidth, zorder=3)
    axes.set(xlim=(-0.015, 1), ylim=(0, 1.015), aspect="equal")
    axes.grid(color=FAINT)
    axes.tick_params(length=0)


def _points(axes, card: Mapping, name: str) -> None:
    """What the card promises at fixed specificity (squares) and at fixed sensitivity (circles)."""
    kinds = {"specificity": ("s", COLOURS[1]), "sensitivity": ("o", COLOURS[2])}
    used = set()
    for point in card["operating_points"]:
        value = (point["score"] or {}).get("value")
        if point["class"] != name or value is None:
            continue
        x, y = (1 - point["at"], value) if point["fixed"] == "specificity" else (1 - value, point["at"])
        marker, colour = kinds[point["fixed"]]
        label = None if point["fixed"] in used else f"at {point['fixed']} 0.80, 0.90, 0.95"
        used.add(point["fixed"])
        axes.plot(
            x,
            y,
            marker,
            color=colour,
            markersize=6,
            zorder=4,
            label=label,
            linestyle="none",
            markeredgecolor="white",
            markeredgewidth=0.7,
        )
    if used:
        axes.legend(loc="lower right", fontsize=8.2, handletextpad=0.2, borderaxespad=0.3)


def _area(card: Mapping, name: str) -> str:
    area = next(row for row in card["classes"] if row["name"] == name)["roc_auc"]["value"]
    return "" if area is None else f"AUC {area:.2f}"
