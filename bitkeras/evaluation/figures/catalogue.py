"""Which figures a report has: each is drawn where the content holds what it shows, with its caption and alt text."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

from bitkeras.evaluation.figures.canvas import MUTED, Look, look
from bitkeras.evaluation.figures.confusion import plot_confusion
from bitkeras.evaluation.figures.efficiency import plot_epochs_to_target, plot_label_efficiency
from bitkeras.evaluation.figures.maps import plot_maps
from bitkeras.evaluation.figures.neighbours import plot_neighbours
from bitkeras.evaluation.figures.reliability import plot_reliability
from bitkeras.evaluation.figures.roc import MOST_CLASSES, has_curves, plot_roc, shown_classes
from bitkeras.evaluation.figures.scores import plot_scores, value_of
from bitkeras.evaluation.figures.training import (
    KNN,
    LOSS,
    RANK,
    SPREAD,
    curve,
    plot_collapse,
    plot_training,
)
from bitkeras.evaluation.leader import leading_arm, told_names

_SEEDS = "The line is the mean over seeds, the band reaches from the lowest to the highest seed."


@dataclasses.dataclass(frozen=True)
class Picture:
    """One figure of a report.

    Attributes:
      name: of its files, without the ending.
      section: of the page that shows it: scores, training, labels, features or clinical.
      title: a few words.
      caption: what it shows and how to read it.
      alt: what someone hears who does not see it.
    """

    name: str
    section: str
    title: str
    caption: str
    alt: str


def draw_figures(content: Mapping, folder: Path) -> list[Picture]:
    """Draws into `folder` what `content`, as `report.write_report` takes it, has the numbers for."""
    return [
        picture
        for draw in (_scores, _training, _collapse, _epochs_to_target, _label_efficiency, _maps, _neighbours, _clinical)
        for picture in draw(content, looks_of(content), folder)
    ]


def looks_of(content: Mapping) -> dict[str, Look]:
    """Arm -> how it is drawn: its own colour, marker and dash; baselines are all grey."""
    arms = [arm["id"] for arm in content["arms"] if not arm.get("baseline")]
    grey = Look(MUTED, "o", (0, (1.4, 1.4)))
    return {**{arm["id"]: grey for arm in content["arms"]}, **{id: look(at) for at, id in enumerate(arms)}}


def _scores(content: Mapping, looks: Mapping[str, Look], folder: Path) -> Iterator[Picture]:
    arms = [arm for arm in content["arms"] if value_of(arm) is not None]
    if not arms:
        return
    plot_scores(arms, looks, folder, chance=content.get("chance_level"))
    ranked = sorted(arms, key=value_of, reverse=True)
    marks = ["a filled mark is the linear classifier, the bar its 95 % interval for other test images of the same kind"]
    marks += ["short strokes are single seeds"] if any(arm.get("num_runs", 1) > 1 for arm in arms) else []
    marks += ["open circles nearest neighbours"] if any(arm["scores"].get(KNN[0]) for arm in arms) else []
    marks += ["grey rows are what an encoder has to beat"] if any(arm.get("baseline") for arm in arms) else []
    yield Picture(
        "scores",
        "scores",
        "Test scores",
        "Balanced accuracy, the mean over classes of the share that is found, on images that nothing was trained on: "
        + "; ".join(marks)
        + ".",
        "Dot plot of balanced accuracy: " + "; ".join(f"{arm['name']} {value_of(arm):.3f}" for arm in ranked) + ".",
    )


def _training(content: Mapping, looks: Mapping[str, Look], folder: Path) -> Iterator[Picture]:
    kinds = (
        (
            "training",
            (KNN, LOSS),
            "Over the epochs",
            "What nearest neighbours make of the frozen features, and the loss. The two need not agree: a loss can "
            "fall while the features lose what tells classes apart.",
        ),
        (
            "health",
            (SPREAD, RANK),
            "Signs of collapse",
            "How far the features of different images lie apart, and in how many directions. Both fall towards their "
            "lowest value where a network answers every image alike.",
        ),
    )
    for name, panels, title, caption in kinds:
        arms = [arm for arm in content["arms"] if any(curve(arm, key) for key, *_ in panels)]
        if arms:
            plot_training(arms, looks, folder, name, panels=panels)
            seeds = f" {_SEEDS}" if any(len(arm["curves"]) > 1 for arm in arms) else ""
            ends = "; ".join(filter(None, (_course(arm, panels[0]) for arm in arms)))
            shown = " and ".join(title.lower() for _, title, _ in panels)
            yield Picture(name, "training", title, caption + seeds, f"Line charts over epochs: {shown}. {ends}.")


def _course(arm: Mapping, panel: tuple[str, str, str]) -> str:
    means = [sum(values) / len(values) for values in curve(arm, panel[0]).values()]
    return f"{arm['name']} from {means[0]:.3f} to {means[-1]:.3f}" if means else ""


def _collapse(content: Mapping, looks: Mapping[str, Look], folder: Path) -> Iterator[Picture]:
    wanted = (content.get("collapse") or {}).get("arms") or []
    by_id = {arm["id"]: arm for arm in content["arms"]}
    arms = [by_id[id] for id in wanted if id in by_id and curve(by_id[id], LOSS[0])]
    if len(arms) < 2:
        return
    plot_collapse(arms, looks, folder)
    names = " against ".join(arm["name"] for arm in arms)
    yield Picture(
        "collapse",
        "training",
        "Group Norm against Batch Norm",
        f"{names}. A network that collapses drives its loss to the lowest value there is by giving every image "
        f"the same features: their spread falls to 0, and nearest neighbours can do no better than chance. {_SEEDS}",
        f"Three line charts over epochs, {names}: kNN balanced accuracy, loss, spread of the features. "
        + "; ".join(filter(None, (_course(arm, SPREAD) and f"spread of {_course(arm, SPREAD)}" for arm in arms)))
        + ".",
    )


def _epochs_to_target(content: Mapping, looks: Mapping[str, Look], folder: Path) -> Iterator[Picture]:
    found, names = content.get("epochs_to_target"), told_names(content)
    if not found or not found["rows"]:
        return
    plot_epochs_to_target(found, names, looks, folder)
    told = (
        f"{names[row['arm']]} {', '.join('never' if e is None else str(e) for e in row['epochs'])}"
        for row in found["rows"]
    )
    of = names[found["of"]]
    yield Picture(
        "epochs_to_target",
        "training",
        "Epochs to the same score",
        f"The first epoch at which each run reaches the kNN balanced accuracy that {of} ends with "
        f"({found['target']:.3f} in the mean over seeds). One mark a seed, the bar ends at their mean; 2.0× is half "
        "the epochs.",
        f"Dot plot of epochs until {found['target']:.3f} is reached: " + "; ".join(told) + ".",
    )


def _label_efficiency(content: Mapping, looks: Mapping[str, Look], folder: Path) -> Iterator[Picture]:
    rows, names = content.get("label_efficiency"), told_names(content)
    if not rows:
        return
    plot_label_efficiency(rows, names, looks, folder, chance=content.get("chance_level"))
    told = [
        f"{names[row['arm']]} "
        + ", ".join(
            f"{point['score']['value']:.3f} with {point['num_labels']}"
            for point in row["points"]
            if point["score"]["value"] is not None
        )
        for row in rows
    ]
    yield Picture(
        "label_efficiency",
        "labels",
        "What labels buy",
        "Test score of a linear classifier by the number of labelled images it was trained on, with 95 % intervals. "
        "Features are worth more the earlier their line is high. Marks of one number stand a little apart.",
        "Line chart of balanced accuracy by number of labels: " + "; ".join(told) + ".",
    )


def _maps(content: Mapping, looks: Mapping[str, Look], folder: Path) -> Iterator[Picture]:
    maps = content.get("maps")
    if not maps:
        return
    of = told_names(content).get(maps[0].get("arm"), "the encoder")
    titles, count = " and ".join(one["title"] for one in maps), len(maps[0]["points"])
    kinds = [*(maps[0].get("groups_of_classes") or {}).items(), ("Sub-classes", None)]
    for kind, groups in kinds:
        name = f"map_{_file_name(kind)}"
        plot_maps(maps, folder, name, groups=groups)
        shown = ", ".join(groups or maps[0]["class_names"])
        yield Picture(
            name,
            "features",
            f"Test images as the features see them: {kind}",
            f"t-SNE of the features of {count:,} test images, {of}, {titles}. Images that lie close together have like "
            "features; distances between far groups, directions and sizes mean nothing.",
            f"t-SNE map of {count} test images, {titles}, coloured by {kind.lower()}: {shown}.",
        )


def _neighbours(content: Mapping, looks: Mapping[str, Look], folder: Path) -> Iterator[Picture]:
    rows = content.get("neighbours")
    if not rows:
        return
    plot_neighbours(rows, folder)
    found = [(row["query"]["class"], one["class"]) for row in rows for one in row["found"]]
    agree = sum(query == other for query, other in found)
    yield Picture(
        "neighbours",
        "features",
        "What the encoder finds alike",
        "Test images (left) and the labelled images whose features are nearest, with class and cosine. A blue frame "
        f"and = mark the same class, an orange frame and ≠ another: {agree} of these {len(found)} agree.",
        f"{len(rows)} test images, one a row, with their nearest labelled images; {agree} of {len(found)} neighbours "
        "are of the same class.",
    )


def _clinical(content: Mapping, looks: Mapping[str, Look], folder: Path) -> Iterator[Picture]:
    arm = leading_arm(content, with_card=True)
    if arm is None:
        return
    card, of = arm["card"], arm["name"]
    if has_curves(card):
        plot_roc(card, folder)
        first, others = shown_classes(card)
        areas = {row["name"]: row["roc_auc"]["value"] for row in card["classes"]}
        told = ", ".join(f"{name} {areas[name]:.3f}" for name in (first, *others) if areas[name] is not None)
        cut = f" The {MOST_CLASSES} most frequent classes are shown." if len(areas) > len(others) + 1 else ""
        yield Picture(
            "roc",
            "clinical",
            "Receiver operating characteristic",
            f"{of}, each class against all others, best trial. Marked for {first} are the operating points of the card "
            "(means over trials): the sensitivity at a specificity that is held fixed, and the reverse." + cut,
            f"ROC curves by class; area under the curve: {told}.",
        )
    plot_reliability(card, folder)
    errors = [card["calibration"][when]["ece"]["value"] for when in ("before", "after")]
    yield Picture(
        "reliability",
        "clinical",
        "Are its probabilities right?",
        f"{of}, best trial. On the diagonal, answers given with 70 % are right in 70 % of the cases; above it the "
        "classifier is more often right than it says. Orange bars are the gaps; below, the number of images in each of "
        "the bins. ECE, the expected calibration error, is the mean gap over images (and trials).",
        f"Reliability diagrams before and after temperature scaling; calibration error {errors[0]:.3f} and "
        f"{errors[1]:.3f}.",
    )
    plot_confusion(card, folder)
    counts = card["confusion"]
    found = ", ".join(
        f"{name} {row[at]:.0f} of {sum(row):.0f}" for at, (name, row) in enumerate(zip(card["class_names"], counts))
    )
    yield Picture(
        "confusion",
        "clinical",
        "What is taken for what",
        f"{of}. Rows are true classes and columns answers; the shade is the share of the true class, the number is the "
        "count of test images, mean over trials.",
        f"Confusion matrix; right answers by class: {found}.",
    )


def _file_name(kind: str) -> str:
    return "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in kind.lower())
