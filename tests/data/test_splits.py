"""Splits against their promises: every image once, shares kept, lesions whole, files that come back."""

import csv
import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from bitkeras.data.ham10000 import HAM10000_CLASSES, read_ham10000_table
from bitkeras.data.source import ImageSource
from bitkeras.data.splits import (
    PARTS,
    SPLITS,
    Split,
    leakage_audit,
    lesion_split,
    load_split,
    paper_split,
    save_split,
    unlabelled_split,
    with_fewer_to_train_on,
)
from bitkeras.errors import UserError

SHARES = {"pretrain": 0.6, "probe_train": 0.1, "probe_val": 0.1, "test": 0.2}


def source_of(labels, groups=None, class_names=None, **fields):
    labels = np.asarray(labels, dtype=np.int32)
    return ImageSource(
        "made",
        np.array([f"im_{i:05d}" for i in range(len(labels))]),
        labels=labels,
        class_names=class_names or tuple(f"class{k}" for k in range(labels.max() + 1)),
        groups=None if groups is None else np.asarray(groups),
        **fields,
    )


def skin(num_lesions=1500, seed=0):
    """Classes as unequal as HAM10000's, lesions of one class with one to six photographs, in mixed order."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([1, 2, 3, 4, 6], num_lesions, p=[0.7, 0.2, 0.06, 0.03, 0.01])
    labels = rng.choice(7, num_lesions, p=[0.03, 0.05, 0.11, 0.015, 0.11, 0.67, 0.015])
    order = rng.permutation(sizes.sum())
    groups = np.repeat([f"L{i:04d}" for i in range(num_lesions)], sizes)[order]
    return source_of(np.repeat(labels, sizes)[order], groups)


def shares(split, chosen):
    return {part: float(np.mean(split.parts[chosen] == part)) for part in PARTS}


@pytest.mark.parametrize("make", SPLITS.values(), ids=SPLITS)
def test_every_image_is_in_one_part(make):
    source = skin()
    split = make(source, seed=3)
    together = np.concatenate([split.indices(part) for part in PARTS])
    assert sorted(together) == list(range(len(source)))
    assert split.parts.shape == (len(source),)
    assert split.summary().startswith("pretrain ")


@pytest.mark.parametrize("make", SPLITS.values(), ids=SPLITS)
def test_shares_overall_and_in_every_class(make):
    source = skin()
    for seed in range(5):
        split = make(source, seed=seed)
        for part, share in shares(split, slice(None)).items():
            assert share == pytest.approx(SHARES[part], abs=0.005)
        for label in range(7):
            images = source.labels == label
            # Rounding, and for lesions one that does not fit: a few images of a class of dozens.
            for part, share in shares(split, images).items():
                assert abs(share - SHARES[part]) * images.sum() <= 4


@pytest.mark.parametrize("make", SPLITS.values(), ids=SPLITS)
def test_the_seed_decides(make):
    source = skin()
    assert (make(source, seed=1).parts == make(source, seed=1).parts).all()
    assert (make(source, seed=1).parts != make(source, seed=2).parts).any()


def test_lesions_stay_whole():
    source = skin()
    split = lesion_split(source, seed=0)
    for lesion in np.unique(source.groups):
        assert len(set(split.parts[source.groups == lesion])) == 1
    assert leakage_audit(split, source)["overall"] == 0


def test_lesion_size_does_not_decide_the_part():
    source = skin()
    names, sizes = np.unique(source.groups, return_counts=True)
    large = np.isin(source.groups, names[sizes >= 3])
    mean = np.mean([list(shares(lesion_split(source, seed=s), large).values()) for s in range(30)], axis=0)
    np.testing.assert_allclose(mean, list(SHARES.values()), atol=0.03)


def test_lesion_split_without_lesions_is_stratified():
    source = source_of(np.repeat([0, 1], [900, 100]))
    split = lesion_split(source, seed=0)
    assert [len(split.indices(part)) for part in PARTS] == [600, 100, 100, 200]
    assert int((source.labels[split.indices("test")] == 1).sum()) == 20


@pytest.mark.parametrize("make", SPLITS.values(), ids=SPLITS)
def test_released_test_part_is_kept(make):
    tested = np.arange(1200) % 6 == 0
    source = source_of(np.arange(1200) % 10, official_test=tested)
    split = make(source, seed=0)
    assert (split.indices("test") == np.flatnonzero(tested)).all()
    assert [len(split.indices(part)) for part in PARTS] == [750, 125, 125, 200]
    lost = source.take(np.flatnonzero(~tested))
    assert len(make(lost, seed=0).indices("test")) == 200


def test_released_test_part_that_cuts_a_lesion():
    source = source_of([0] * 10, groups=list("aabbccddee"), official_test=np.arange(10) == 0)
    with pytest.raises(UserError, match="lesion a"):
        lesion_split(source, seed=0)


@pytest.mark.parametrize("make", SPLITS.values(), ids=SPLITS)
def test_no_labels_means_all_pretrain(make):
    source = dataclasses.replace(skin(), labels=None, class_names=())
    for split in (make(source, seed=0), unlabelled_split(source)):
        assert len(split.indices("pretrain")) == len(source)
        assert len(split.indices("test")) == 0
        assert leakage_audit(split, source) == {"num_test_images": 0, "overall": 0.0, "by_class": {}}


def test_unknown_part():
    with pytest.raises(ValueError, match="probe_train"):
        Split(np.array(["test"])).indices("validation")


@pytest.mark.parametrize("make", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("counts", [[20, 18, 2], [30, 9, 1], [40]])
def test_small_data_works(make, counts):
    source = source_of(np.repeat(np.arange(len(counts)), counts))
    for seed in range(20):
        split = make(source, seed=seed)
        assert all(len(split.indices(part)) for part in PARTS)


@pytest.mark.parametrize("make", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize("counts", [[5], [1, 1, 1, 1, 1], [3, 3], [6, 1]])
def test_tiny_data_works_or_says_why_not(make, counts):
    source = source_of(np.repeat(np.arange(len(counts)), counts))
    for seed in range(20):
        try:
            split = make(source, seed=seed)
        except UserError as error:
            assert make is lesion_split and "are too few" in str(error)
        else:
            assert all(len(split.indices(part)) for part in PARTS)


def test_too_small_data_gets_one_sentence():
    for make in SPLITS.values():
        with pytest.raises(UserError, match="made has 4 images to split"):
            make(source_of([0, 0, 1, 1]), seed=0)
    with pytest.raises(UserError, match="2 lesions are too few"):
        lesion_split(source_of([0] * 8, groups=list("aaaabbbb")), seed=0)


@pytest.mark.parametrize("source", [skin(40), dataclasses.replace(skin(40), groups=None)], ids=["lesions", "none"])
def test_saved_split_comes_back(source, tmp_path):
    split = paper_split(source, seed=0)
    path = tmp_path / "run" / "split.csv"
    save_split(split, source, path)
    save_split(split, source, path)
    assert os.listdir(path.parent) == ["split.csv"]
    assert (load_split(path, source).parts == split.parts).all()
    lines = list(csv.reader(path.read_text().splitlines()))
    assert lines[0] == ["image_id", "lesion_id", "class", "part"] and len(lines) == len(source) + 1
    reordered = source.take(np.arange(len(source))[::-1])
    assert (load_split(path, reordered).parts == split.parts[::-1]).all()


def test_unlabelled_split_comes_back(tmp_path):
    source = dataclasses.replace(skin(40), labels=None, class_names=(), groups=None)
    save_split(unlabelled_split(source), source, tmp_path / "s.csv")
    assert (load_split(tmp_path / "s.csv", source).parts == "pretrain").all()


def test_fewer_images_to_train_on_keep_the_proportions_of_the_classes():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    split = Split(np.where(np.arange(1000) % 2, "test", "pretrain").astype("<U11"))
    fewer = with_fewer_to_train_on(split, 100, seed=0, labels=labels)
    chosen = fewer.indices("pretrain")
    assert set(chosen) <= set(split.indices("pretrain")) and len(chosen) == 100
    assert (fewer.indices("test") == split.indices("test")).all() and (fewer.parts == "unused").sum() == 400
    np.testing.assert_allclose(np.bincount(labels[chosen]), [60, 30, 10], atol=1)
    without = with_fewer_to_train_on(split, 100, seed=1).indices("pretrain")
    assert len(without) == 100 and list(without) != list(chosen)
    with pytest.raises(UserError, match="--num_images=500, and there are 500 to train on"):
        with_fewer_to_train_on(split, 500, seed=0)


def test_unused_images_come_back(tmp_path):
    source = skin(40)
    split = with_fewer_to_train_on(paper_split(source, seed=0), 5, seed=0)
    save_split(split, source, tmp_path / "s.csv")
    assert (load_split(tmp_path / "s.csv", source).parts == split.parts).all()


def test_split_of_other_data_is_refused(tmp_path):
    source = skin(40)
    path = tmp_path / "split.csv"
    save_split(paper_split(source, seed=0), source, path)
    with pytest.raises(UserError, match="0 are not in it and it names 1 more .*im_00000 is only in the split"):
        load_split(path, source.take(np.arange(1, len(source))))
    with pytest.raises(UserError, match="1 are not in it .*other is not in the split"):
        load_split(path, dataclasses.replace(source, image_ids=np.array(["other", *source.image_ids[1:]])))
    changed = dataclasses.replace(source, labels=(source.labels + 1) % 7)
    with pytest.raises(UserError, match="has image im_00000 as class"):
        load_split(path, changed)
    with pytest.raises(UserError, match="has image im_00000 as class .* of lesion"):
        load_split(path, dataclasses.replace(source, groups=np.roll(source.groups, 1)))


@pytest.mark.parametrize(
    "content, expected",
    [
        (None, "cannot be read"),
        ("", "is no split"),
        ("a,b\n1,2\n", "is no split: its columns must be image_id"),
        ("image_id,lesion_id,class,part\nim_00000,,class0,train\n", "puts image im_00000 into 'train'"),
        ("image_id,lesion_id,class,part\nim_00000,,,test\nim_00000,,,test\n", "im_00000 stands 2 times"),
    ],
)
def test_file_that_is_no_split(content, expected, tmp_path):
    path = tmp_path / "split.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=expected):
        load_split(path, skin(10))


def test_audit_by_hand():
    # a: both in the test; b: one of two; c: alone; d: one of two, of class 1.
    source = source_of([0, 0, 0, 0, 0, 1, 1], groups=list("aabbcdd"))
    split = Split(np.array(["test", "test", "test", "pretrain", "test", "probe_val", "test"]))
    audit = leakage_audit(split, source)
    assert audit == {"num_test_images": 5, "overall": 2 / 5, "by_class": {"class0": 1 / 4, "class1": 1.0}}


@pytest.fixture(scope="module")
def full_table():
    """All 10,015 rows of HAM10000 as a source without images."""
    table = Path(os.environ.get("BITKERAS_REAL_DATA", "."), "HAM10000_metadata_full.csv")
    if not table.is_file():
        pytest.skip(f"{table} is not here")
    rows = read_ham10000_table(table)
    return ImageSource(
        "ham10000",
        np.array([row["image_id"] for row in rows]),
        labels=np.array([HAM10000_CLASSES.index(row["dx"]) for row in rows], dtype=np.int32),
        class_names=HAM10000_CLASSES,
        groups=np.array([row["lesion_id"] for row in rows]),
    )


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


@pytest.mark.real_data
def test_lesion_split_on_ham10000(full_table):
    split = lesion_split(full_table, seed=0)
    assert leakage_audit(split, full_table)["overall"] == 0
    for part, share in shares(split, slice(None)).items():
        assert share == pytest.approx(SHARES[part], abs=0.002)
    for label in range(7):
        for part, share in shares(split, full_table.labels == label).items():
            assert share == pytest.approx(SHARES[part], abs=0.02)
