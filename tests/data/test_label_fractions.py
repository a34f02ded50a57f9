"""Fewer labels: the right number of each class, nested, and only from the probe's training part."""

import dataclasses

import numpy as np
import pytest
from made_tables import skin, source_of

from bitkeras.data.label_fractions import label_fraction_line, with_fewer_labels
from bitkeras.data.splits import Split, paper_split
from bitkeras.errors import UserError

FRACTIONS = (0.01, 0.05, 0.1, 0.3, 0.77, 1.0)


@pytest.fixture(scope="module")
def source():
    return skin(3000)


@pytest.fixture(scope="module")
def split(source):
    return paper_split(source, seed=0)


@pytest.mark.parametrize("unit", ["image", "lesion"])
def test_a_smaller_fraction_is_a_subset_of_a_larger_one(source, split, unit):
    whole = set(split.indices("probe_train"))
    for seed in range(3):
        kept = [
            set(with_fewer_labels(split, source, share, unit=unit, seed=seed).indices("probe_train"))
            for share in FRACTIONS
        ]
        assert kept[-1] == whole and len(kept[0]) < len(kept[1])
        assert all(smaller <= larger for smaller, larger in zip(kept, kept[1:]))


@pytest.mark.parametrize("unit", ["image", "lesion"])
def test_every_class_keeps_its_share_and_at_least_one(source, split, unit):
    before = split.indices("probe_train")
    for share in FRACTIONS:
        kept = with_fewer_labels(split, source, share, unit=unit, seed=1).indices("probe_train")
        for label in range(7):
            if unit == "image":
                units = [indices[source.labels[indices] == label] for indices in (before, kept)]
            else:
                units = [
                    np.unique(source.groups[indices[source.labels[indices] == label]]) for indices in (before, kept)
                ]
            assert len(units[0]) > 0 and len(units[1]) >= 1
            assert abs(len(units[1]) - share * len(units[0])) <= (0.5 if share * len(units[0]) >= 1 else 1)


def test_only_the_training_part_of_the_probe_changes(source, split):
    fewer = with_fewer_labels(split, source, 0.2, seed=0)
    changed = fewer.parts != split.parts
    assert set(split.parts[changed]) == {"probe_train"} and set(fewer.parts[changed]) == {"unused"}


def test_a_lesion_is_taken_with_all_its_photographs(source, split):
    before = split.indices("probe_train")
    kept = with_fewer_labels(split, source, 0.3, unit="lesion", seed=0).indices("probe_train")
    lesions = set(source.groups[kept])
    assert list(kept) == [image for image in before if source.groups[image] in lesions]
    by_image = with_fewer_labels(split, source, 0.3, seed=0).indices("probe_train")
    cut = [image for image in before if source.groups[image] in set(source.groups[by_image])]
    assert len(cut) > len(by_image)


def test_the_seed_decides(source, split):
    drawn = [with_fewer_labels(split, source, 0.1, seed=seed).parts for seed in (0, 0, 1)]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()


def test_every_image_has_the_same_chance():
    source = source_of([0] * 40)
    split = Split(np.array(["probe_train"] * 40))
    times = sum(with_fewer_labels(split, source, 0.25, seed=seed).parts == "probe_train" for seed in range(400))
    # 100 of 400 draws each, with a deviation of 8.7.
    assert times.sum() == 4000 and abs(times - 100).max() < 40


def test_the_line_says_how_many_of_each_class():
    source = source_of([0] * 20 + [1] * 3 + [2])
    split = Split(np.array(["probe_train"] * 23 + ["test"]))
    fewer = with_fewer_labels(split, source, 0.1, seed=0)
    assert (
        label_fraction_line(split, fewer, source) == "3 of 23 labels to train the probe (class0 2, class1 1, class2 0)"
    )


def test_what_is_refused(source, split):
    for fraction in (0, -0.1, 1.01):
        with pytest.raises(UserError, match="above 0 and at most 1"):
            with_fewer_labels(split, source, fraction, seed=0)
    with pytest.raises(UserError, match="names no lesions"):
        with_fewer_labels(split, dataclasses.replace(source, groups=None), 0.5, unit="lesion", seed=0)
