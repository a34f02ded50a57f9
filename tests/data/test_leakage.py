"""The audit of what leaks, against counts by hand, by brute force and by probability."""

import csv
import dataclasses

import numpy as np
import pytest
from made_tables import skin, source_of

from bitkeras.data.ham10000 import HAM10000_CLASSES
from bitkeras.data.leakage import TRAINED_PARTS, leakage_audit, seen_audit, shares_of_test
from bitkeras.data.split_files import save_split
from bitkeras.data.splits import PARTS, Split, lesion_split, paper_split, with_fewer_to_train_on


def test_audit_by_hand():
    # a: both in the test; b: one of two; c: alone; d: one of two, of class 1; e: its sister is unused.
    source = source_of([0, 0, 0, 0, 0, 1, 1, 1, 1], groups=list("aabbcddee"))
    parts = ["test", "test", "test", "pretrain", "test", "probe_val", "test", "test", "unused"]
    assert leakage_audit(Split(np.array(parts)), source) == {
        "num_test_images": 6,
        "overall": 2 / 6,
        "by_class": {"class0": 1 / 4, "class1": 1 / 2},
        "by_part": {"pretrain": 1 / 6, "probe_val": 1 / 6},
    }


def counted_slowly(table, parts):
    """The same from the lines of the saved table, one test image after the other."""
    rows = list(csv.DictReader(open(table)))
    tested = [row for row in rows if row["part"] == "test"]

    def leaks(row, parts):
        return any(other["lesion_id"] == row["lesion_id"] and other["part"] in parts for other in rows)

    def share(rows, parts):
        return sum(leaks(row, parts) for row in rows) / len(rows)

    return {
        "num_test_images": len(tested),
        "overall": share(tested, parts),
        "by_class": {
            name: share([row for row in tested if row["class"] == name], parts)
            for name in sorted({row["class"] for row in tested})
        },
        "by_part": {part: share(tested, [part]) for part in parts if any(row["part"] == part for row in rows)},
    }


@pytest.mark.parametrize("parts", [TRAINED_PARTS, ("probe_train", "probe_val")], ids=["all", "probe"])
@pytest.mark.parametrize("seed", range(3))
def test_audit_against_a_slow_count(seed, parts, tmp_path):
    source = skin(150, seed=seed)
    split = with_fewer_to_train_on(paper_split(source, seed=seed), 60, seed=seed)
    save_split(split, source, tmp_path / "split.csv")
    audit = leakage_audit(split, source, parts=parts)
    expected = counted_slowly(tmp_path / "split.csv", parts)
    assert audit == expected and 0 < audit["overall"] < 1


def test_nothing_is_known_without_lesions_and_nothing_leaks_without_a_test_part():
    source = dataclasses.replace(skin(40), groups=None)
    audit = leakage_audit(paper_split(source, seed=0), source)
    assert audit["overall"] is None and audit["by_class"] == {} and audit["num_test_images"] > 0
    everything = Split(np.full(len(skin(40)), "pretrain"))
    assert leakage_audit(everything, skin(40)) == {
        **{"num_test_images": 0, "overall": 0.0, "by_class": {}},
        "by_part": {"pretrain": 0.0},
    }


def test_what_is_found_in_two_parts_counts_once():
    source = source_of([0, 0, 1, 1, 1])
    split = Split(np.array(["test", "test", "test", "pretrain", "test"]))
    found = {"pretrain": np.array([True, False, True, False]), "probe_val": np.array([True, False, False, False])}
    assert shares_of_test(found, split, source) == {
        "num_test_images": 4,
        "overall": 0.5,
        "by_class": {"class0": 0.5, "class1": 0.5},
        "by_part": {"pretrain": 0.5, "probe_val": 0.25},
    }


def test_what_another_split_has_shown_by_hand():
    # a: one tested, its sister seen; b: both tested, one of them seen; c: tested and seen; d: neither.
    source = source_of([0, 0, 0, 0, 1, 1], groups=list("aabbcd"))
    split = Split(np.array(["test", "probe_train", "test", "test", "test", "test"]))
    audit = seen_audit(split, source, seen=np.array([1, 2, 4]))
    assert audit == {
        **{"num_test_images": 5, "overall": 4 / 5, "by_class": {"class0": 1.0, "class1": 1 / 2}},
        **{"by_part": {"image": 2 / 5, "sister": 2 / 5}, "num_seen": 2, "num_sisters_seen": 2},
    }
    unnamed = seen_audit(split, dataclasses.replace(source, groups=None), seen=np.array([1, 2, 4]))
    assert (unnamed["num_seen"], unnamed["num_sisters_seen"], unnamed["overall"]) == (2, None, 2 / 5)


@pytest.mark.parametrize("seed", range(3))
def test_of_a_random_test_part_pre_training_has_seen_its_share(seed):
    """60 % by lesion are pre-trained on, whatever part of them is tested."""
    source = skin(600, seed=seed)
    own, other = lesion_split(source, seed=seed), paper_split(source, seed=seed)
    audit = seen_audit(other, source, seen=own.indices("pretrain"))
    assert audit["num_seen"] / audit["num_test_images"] == pytest.approx(0.6, abs=0.08)
    # With every lesion whole, a sister is seen with the image itself.
    assert audit["num_sisters_seen"] == 0 == seen_audit(own, source, seen=own.indices("pretrain"))["num_seen"]


def chance_of_a_sister_outside(source, chosen, num_test):
    """Exact for a random test part: an image of an n-photo lesion leaks unless its n - 1 sisters are drawn too."""
    names, sizes = np.unique(source.groups, return_counts=True)
    all_inside = {1: 1.0}
    for n in range(2, sizes.max() + 1):
        all_inside[n] = all_inside[n - 1] * (num_test - n + 1) / (len(source) - n + 1)
    size_of = dict(zip(names, sizes))
    return np.mean([1 - all_inside[size_of[lesion]] for lesion in source.groups[chosen]])


@pytest.mark.real_data
def test_leakage_of_the_paper_split_on_ham10000(full_table):
    audits = [leakage_audit(paper_split(full_table, seed=seed), full_table) for seed in range(20)]
    assert {audit["num_test_images"] for audit in audits} == {2003}
    everything = np.full(len(full_table), True)
    melanoma = full_table.labels == HAM10000_CLASSES.index("mel")
    overall = np.mean([audit["overall"] for audit in audits])
    of_melanoma = np.mean([audit["by_class"]["mel"] for audit in audits])
    assert overall == pytest.approx(0.387, abs=0.01)
    assert overall == pytest.approx(chance_of_a_sister_outside(full_table, everything, 2003), abs=0.01)
    assert of_melanoma == pytest.approx(0.688, abs=0.03)
    assert of_melanoma == pytest.approx(chance_of_a_sister_outside(full_table, melanoma, 2003), abs=0.03)
    # A part of them all leaks less, and the parts together no more than their sum.
    for audit in audits:
        assert tuple(audit["by_part"]) == PARTS[:3]
        assert max(audit["by_part"].values()) < audit["overall"] <= sum(audit["by_part"].values())


@pytest.mark.real_data
def test_the_audit_of_ham10000_against_a_slow_count(full_table):
    split = paper_split(full_table, seed=0)
    photos = {}
    for lesion, part in zip(full_table.groups, split.parts):
        photos.setdefault(lesion, []).append(part)
    leaks = [any(part != "test" for part in photos[lesion]) for lesion in full_table.groups[split.indices("test")]]
    assert leakage_audit(split, full_table)["overall"] == sum(leaks) / 2003
