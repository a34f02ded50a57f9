"""A clinical card in figures, with captions: ROC, reliability, confusion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from bitkeras.evaluation.figures.confusion import plot_confusion
from bitkeras.evaluation.figures.picture import Picture
from bitkeras.evaluation.figures.reliability import plot_reliability
from bitkeras.evaluation.figures.roc import MOST_CLASSES, has_curves, plot_roc, shown_classes
from bitkeras.evaluation.leader import leading_arm


def card_pictures(content: Mapping, folder: Path) -> Iterator[Picture]:
    """Of the best arm that has a card."""
    arm = leading_arm(content, with_card=True)
    if arm is None:
        return
    if has_curves(arm["card"]):
        yield _roc(arm["card"], arm["name"], folder)
    yield _reliability(arm["card"], arm["name"], folder)
    yield _confusion(arm["card"], arm["name"], folder)


def _roc(card: Mapping, of: str, folder: Path) -> Picture:
    plot_roc(card, folder)
    first, others = shown_classes(card)
    areas = {row["name"]: row["roc_auc"]["value"] for row in card["classes"]}
    told = ", ".join(f"{name} {areas[name]:.3f}" for name in (first, *others) if areas[name] is not None)
    num_curves = sum(bool(curve["sensitivity"]) for curve in card["curves"]["roc"].values())
    cut = f" {MOST_CLASSES} of {num_curves} classes are shown, the most frequent." if num_curves > MOST_CLASSES else ""
    return Picture(
        "roc",
        "clinical",
        "Receiver operating characteristic",
        f"{of}, each class against all others, best trial. Marked for {first} are the operating points of the card "
        "(means over trials): the sensitivity at a specificity that is held fixed, and the reverse." + cut,
        f"ROC curves by class; area under the curve: {told}.",
    )


def _reliability(card: Mapping, of: str, folder: Path) -> Picture:
    plot_reliability(card, folder)
    errors = [card["calibration"][when]["ece"]["value"] for when in ("before", "after")]
    return Picture(
        "reliability",
        "clinical",
        "Are its probabilities right?",
        f"{of}, best trial. On the diagonal, answers given with 70 % are right in 70 % of the cases; above it the "
        "classifier is more often right than it says. Orange bars are the gaps; below, the number of images in each of "
        "the bins. ECE, the expected calibration error, is the mean gap over images (and trials).",
        f"Reliability diagrams before and after temperature scaling; calibration error {errors[0]:.3f} and "
        f"{errors[1]:.3f}.",
    )


def _confusion(card: Mapping, of: str, folder: Path) -> Picture:
    plot_confusion(card, folder)
    counts = card["confusion"]
    found = ", ".join(
        f"{name} {row[at]:.0f} of {sum(row):.0f}" for at, (name, row) in enumerate(zip(card["class_names"], counts))
    )
    return Picture(
        "confusion",
        "clinical",
        "What is taken for what",
        f"{of}. Rows are true classes and columns answers; the shade is the share of the true class, the number is the "
        "count of test images, mean over trials.",
        f"Confusion matrix; right answers by class: {found}.",
    )
