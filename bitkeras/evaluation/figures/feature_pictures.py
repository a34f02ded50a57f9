"""What features look like, with captions: maps and neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from bitkeras.evaluation.figures.maps import plot_maps
from bitkeras.evaluation.figures.neighbours import plot_neighbours
from bitkeras.evaluation.figures.picture import Picture
from bitkeras.evaluation.leader import told_names


def map_pictures(content: Mapping, folder: Path) -> Iterator[Picture]:
    """Of t-SNE maps: one figure of kinds of classes each, and one of the classes."""
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


def neighbour_pictures(content: Mapping, folder: Path) -> Iterator[Picture]:
    """Of sample images with their neighbours."""
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


def _file_name(kind: str) -> str:
    return "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in kind.lower())
