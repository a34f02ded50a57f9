"""Who sees which image: the paper's split of images, a split of lesions, and an audit of what leaks between parts."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np

from bitkeras.data.source import ImageSource, require_unique
from bitkeras.errors import UserError
from bitkeras.files import written_atomically

PARTS = ("pretrain", "probe_train", "probe_val", "test")
# What a run leaves out that trains on fewer images than it could.
UNUSED = "unused"

# Shares of PARTS: 60 % for pre-training, 20 % for the test, the 20 % between them halved for the probe.
_SHARES = (0.6, 0.1, 0.1, 0.2)
# The same proportions of what a released test part leaves over.
_SHARES_WITHOUT_TEST = (0.75, 0.125, 0.125, 0.0)

_COLUMNS = ("image_id", "lesion_id", "class", "part")


@dataclasses.dataclass(frozen=True)
class Split:
    """The part of every image of a source.

    Attributes:
      parts: [N] str, each one of `PARTS` or "unused", aligned with the source's `image_ids`.
    """

    parts: np.ndarray

    def indices(self, part: str) -> np.ndarray:
        """int64 [n], ascending: the images of `part`; empty where the part has none."""
        if part not in PARTS:
            raise ValueError(f"part must be one of {', '.join(PARTS)}, not {part!r}.")
        return np.flatnonzero(self.parts == part)

    def summary(self) -> str:
        """One line: the number of images of each part."""
        return ", ".join(f"{part} {len(self.indices(part))}" for part in PARTS)


def paper_split(source: ImageSource, *, seed: int) -> Split:
    """Images drawn at random: 60 % pretrain, 20 % test, 10 % each for training and validating the probe.

    Photographs of one lesion may fall on both sides (see `leakage_audit`); `lesion_split` prevents that. A released
    test part is kept, and the rest is cut 75 / 12.5 / 12.5. Each of the three cuts is stratified by class if every
    class has two images there and both sides have room for all classes; in smaller data it is plainly random, and a
    part may then lack a class. A source without labels is all pretrain.

    Raises:
      UserError: there are too few images for four parts.
    """
    if source.labels is None:
        return unlabelled_split(source)
    parts, pool, shares = _unassigned(source)
    num_probe = max(2, round((shares[1] + shares[2]) * len(pool)))
    rest, test = _cut(pool, round(shares[3] * len(pool)), source.labels, seed)
    pretrain, probe = _cut(rest, num_probe, source.labels, seed)
    probe_train, probe_val = _cut(probe, num_probe // 2, source.labels, seed)
    for part, indices in zip(PARTS, (pretrain, probe_train, probe_val, test)):
        parts[indices] = part
    return Split(parts)


def lesion_split(source: ImageSource, *, seed: int) -> Split:
    """The shares of `paper_split`, with all photographs of a lesion in one part; stratified by class.

    Lesions are placed class by class, the rarest class first, those with the most photographs first; each goes to a
    part drawn with a chance proportional to the images the part still lacks. That favours no part for large lesions,
    and the many lesions with one photograph fill up what is left, so the shares come out within about an image. What
    a class leaves over or takes too much is made good by the next. A lesion counts for the class of its first image.
    Without lesions every image stands for itself; a source without labels is all pretrain.

    Raises:
      UserError: a part stays empty (too few lesions), or a released test part cuts a lesion in two.
    """
    if source.labels is None:
        return unlabelled_split(source)
    parts, pool, shares = _unassigned(source)
    _require_whole_lesions(source, pool)
    rng = np.random.default_rng(seed)
    lesions = _lesions(source, pool)
    lesion_labels = np.array([source.labels[images[0]] for images in lesions], dtype=np.int64)
    num_images = np.array([len(images) for images in lesions])
    per_class = np.bincount(lesion_labels, weights=num_images, minlength=len(source.class_names))
    room = np.zeros(len(PARTS))
    for label in np.argsort(per_class, kind="stable"):
        room += shares * per_class[label]
        order = rng.permutation(np.flatnonzero(lesion_labels == label))
        for lesion in order[np.argsort(-num_images[order], kind="stable")]:
            chances = np.maximum(room, 0)
            chosen = rng.choice(len(PARTS), p=chances / chances.sum())
            parts[lesions[lesion]] = PARTS[chosen]
            room[chosen] -= num_images[lesion]
    _require_all_parts(parts, source, f"{len(lesions)} lesions")
    return Split(parts)


def unlabelled_split(source: ImageSource) -> Split:
    """Everything is pretrain."""
    return Split(np.full(len(source), "pretrain", dtype="<U11"))


def with_fewer_to_train_on(split: Split, num_images: int, *, seed: int, labels: np.ndarray | None = None) -> Split:
    """`split` with only `num_images` of its pretrain part, drawn at random; the others are left unused.

    Args:
      labels: [N] int, to keep the classes in proportion; None draws as if there were none.

    Raises:
      UserError: the part holds no more than `num_images`.
    """
    indices = split.indices("pretrain")
    if num_images >= len(indices):
        raise UserError(
            f"--num_images={num_images}, and there are {len(indices)} to train on; pass fewer or leave it out."
        )
    drawn = np.random.default_rng(seed).permutation(indices)
    strata = np.zeros(len(drawn)) if labels is None else labels[drawn]
    # Each image ranked within its class: cutting at one rank share keeps the proportions.
    share = np.empty(len(drawn))
    for stratum in np.unique(strata):
        (of_class,) = np.nonzero(strata == stratum)
        share[of_class] = (np.arange(len(of_class)) + 0.5) / len(of_class)
    parts = split.parts.copy()
    parts[drawn[np.argsort(share, kind="stable")[num_images:]]] = UNUSED
    return Split(parts)


SPLITS = {"paper": paper_split, "lesion": lesion_split}


def save_split(split: Split, source: ImageSource, path: str | Path) -> None:
    """Writes a CSV with a line an image (image_id, lesion_id, class, part); class and lesion stay empty if unknown."""
    with written_atomically(path) as beside, open(beside, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows((*known, part) for known, part in zip(_known_of_images(source), split.parts))


def load_split(path: str | Path, source: ImageSource) -> Split:
    """The split saved at `path`, aligned with `source`; the order of its lines does not matter.

    Raises:
      UserError: the file is missing or no split, or names other images, lesions or classes than `source`.
    """
    rows = _read_split_rows(Path(path))
    saved = {row["image_id"]: row for row in rows}
    known = _known_of_images(source)
    absent = [image_id for image_id, _, _ in known if image_id not in saved]
    extra = saved.keys() - {image_id for image_id, _, _ in known}
    if absent or extra:
        example = f"{absent[0]} is not in the split" if absent else f"{min(extra)} is only in the split"
        raise UserError(
            f"The split {path} is of other images than {source.name} holds: {len(absent)} are not in it and it names "
            f"{len(extra)} more (for one, {example}); make a new split or pass the data it was made from."
        )
    for image_id, lesion_id, class_name in known:
        row = saved[image_id]
        if (row["lesion_id"], row["class"]) != (lesion_id, class_name):
            raise UserError(
                f"The split {path} has image {image_id} as class {row['class'] or '(none)'} of lesion "
                f"{row['lesion_id'] or '(none)'}, but in {source.name} it is class {class_name or '(none)'} of lesion "
                f"{lesion_id or '(none)'}; make a new split or pass the data it was made from."
            )
    return Split(np.array([saved[image_id]["part"] for image_id, _, _ in known], dtype="<U11"))


def leakage_audit(split: Split, source: ImageSource) -> dict:
    """How many test images have a sister photograph of the same lesion outside the test part.

    Returns:
      `num_test_images`, `overall` (share in [0, 1]; 0 without lesions or test images) and `by_class`, {class: share}
      for the classes that have test images. For HAM10000 under `paper_split` expect about 0.387 and for mel 0.683.
    """
    test = split.indices("test")
    leaked = np.zeros(len(test), dtype=bool)
    if source.groups is not None:
        outside = np.setdiff1d(np.arange(len(source)), test)
        leaked = np.isin(source.groups[test], source.groups[outside])
    labels = np.full(len(test), -1) if source.labels is None else source.labels[test]
    return {
        "num_test_images": len(test),
        "overall": float(leaked.mean()) if len(test) else 0.0,
        "by_class": {
            name: float(leaked[labels == label].mean())
            for label, name in enumerate(source.class_names)
            if (labels == label).any()
        },
    }


def _unassigned(source: ImageSource) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Parts with only the released test filled in ([N] str), the other images ([n] int) and their shares of PARTS."""
    parts = np.full(len(source), "", dtype="<U11")
    if source.official_test is not None:
        parts[source.official_test] = "test"
    pool = np.flatnonzero(parts == "")
    if len(pool) < 5:
        raise UserError(f"{source.name} has {len(pool)} images to split; a split into {', '.join(PARTS)} needs five.")
    # A subset may have lost the whole released test part: it is then split like a source that never had one.
    return parts, pool, np.array(_SHARES_WITHOUT_TEST if "test" in parts else _SHARES)


def _cut(indices: np.ndarray, num_second: int, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`indices` in two, `num_second` of them in the second, stratified by class where that can be done."""
    from sklearn.model_selection import train_test_split

    if not num_second:
        return indices, indices[:0]
    _, counts = np.unique(labels[indices], return_counts=True)
    can_stratify = counts.min() >= 2 and len(counts) <= min(num_second, len(indices) - num_second)
    first, second = train_test_split(
        indices, test_size=num_second, random_state=seed, stratify=labels[indices] if can_stratify else None
    )
    return first, second


def _lesions(source: ImageSource, pool: np.ndarray) -> list[np.ndarray]:
    """The images of each lesion in `pool`, lesions in the order of their ids."""
    if source.groups is None:
        return list(pool[:, None])
    order = pool[np.argsort(source.groups[pool], kind="stable")]
    _, starts = np.unique(source.groups[order], return_index=True)
    return np.split(order, starts[1:])


def _require_whole_lesions(source: ImageSource, pool: np.ndarray) -> None:
    if source.groups is None or source.official_test is None:
        return
    shared = np.intersect1d(source.groups[pool], source.groups[source.official_test])
    if len(shared):
        raise UserError(
            f"The released test part of {source.name} holds only some photographs of lesion {shared[0]}, so no split "
            "can keep its lesions whole; use --split=paper."
        )


def _require_all_parts(parts: np.ndarray, source: ImageSource, of: str) -> None:
    empty = [part for part in PARTS if part not in parts]
    if empty:
        raise UserError(
            f"The split of {source.name} leaves {' and '.join(empty)} without images, since {of} are too few; "
            "use more data, another seed, or --split=paper."
        )


def _known_of_images(source: ImageSource) -> list[tuple[str, str, str]]:
    """(image id, lesion or "", class or "") of every image."""
    empty = [""] * len(source)
    lesions = empty if source.groups is None else source.groups.tolist()
    classes = empty if source.labels is None else [source.class_names[label] for label in source.labels]
    return list(zip(source.image_ids.tolist(), lesions, classes))


def _read_split_rows(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            columns, rows = tuple(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The split {path} cannot be read ({error}); make a new one or correct the path.") from None
    if columns != _COLUMNS:
        raise UserError(f"The file {path} is no split: its columns must be {', '.join(_COLUMNS)}.")
    for row in rows:
        if row["part"] not in (*PARTS, UNUSED):
            raise UserError(
                f"The split {path} puts image {row['image_id']} into {row['part']!r}; known parts are "
                f"{', '.join(PARTS)} and {UNUSED}."
            )
    require_unique((row["image_id"] for row in rows), str(path))
    return rows
