"""Who sees which image: the paper's split of images, and a split of lesions."""

from __future__ import annotations

import dataclasses

import numpy as np

from bitkeras.data.dealing import deal, lesions_of
from bitkeras.data.source import ImageSource
from bitkeras.errors import UserError

PARTS = ("pretrain", "probe_train", "probe_val", "test")
# What a run leaves out that trains on fewer images than it could.
UNUSED = "unused"

# Shares of PARTS: 60 % for pre-training, 20 % for the test, the 20 % between them halved for the probe.
_SHARES = (0.6, 0.1, 0.1, 0.2)
# The same proportions of what a released test part leaves over.
_SHARES_WITHOUT_TEST = (0.75, 0.125, 0.125, 0.0)


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

    def without(self, indices: np.ndarray) -> Split:
        """The same split with the images at `indices` left unused."""
        parts = self.parts.copy()
        parts[indices] = UNUSED
        return Split(parts)


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
    """The shares of `paper_split`, with all photographs of a lesion in one part; stratified by class, as `deal` does.

    Without lesions every image stands for itself; a source without labels is all pretrain.

    Raises:
      UserError: a part stays empty (too few lesions), or a released test part cuts a lesion in two.
    """
    if source.labels is None:
        return unlabelled_split(source)
    parts, pool, shares = _unassigned(source)
    _require_whole_lesions(source, pool)
    lesions = lesions_of(source, pool)
    for images, part in zip(lesions, deal(source, lesions, shares, rng=np.random.default_rng(seed))):
        parts[images] = PARTS[part]
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
    return split.without(drawn[np.argsort(share, kind="stable")[num_images:]])


SPLITS = {"paper": paper_split, "lesion": lesion_split}


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
