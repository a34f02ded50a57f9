"""Which figures a report has: each is drawn where the content holds what it shows, with its caption and alt text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from bitkeras.evaluation.figures.canvas import MUTED, Look, look
from bitkeras.evaluation.figures.card_pictures import card_pictures
from bitkeras.evaluation.figures.efficiency import plot_epochs_to_target, plot_label_efficiency
from bitkeras.evaluation.figures.feature_pictures import map_pictures, neighbour_pictures
from bitkeras.evaluation.figures.picture import Picture
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
from bitkeras.evaluation.leader import told_names

_SEEDS = "The line is the mean over seeds, the band reaches from the lowest to the highest seed."


def draw_figures(content: Mapping, folder: Path) -> list[Picture]:
    """Draws into `folder` what `content`, as `report.write_report` takes it, has the numbers for."""
    looks = looks_of(content)
    of_arms = (_scores, _training, _collapse, _epochs_to_target, _label_efficiency)
    of_one = (map_pictures, neighbour_pictures, card_pictures)
    return [
        *(picture for draw in of_arms for picture in draw(content, looks, folder)),
        *(picture for draw in of_one for picture in draw(content, folder)),
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
        "The paper's figure 1, with nearest neighbours in place of training accuracy, as no labels are trained on: "
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
        f"({found['target']:.3f} in the mean over seeds){_over(found)}. One mark a seed, the bar ends at their mean; "
        "2.0× is half the epochs.",
        f"Dot plot of epochs until {found['target']:.3f} is reached: " + "; ".join(told) + ".",
    )


def _over(found: Mapping) -> str:
    # One epoch's score scatters by as much as training gains in ten.
    window = found.get("window", 1)
    return f", both as means of {window} epochs" if window > 1 else ""


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
