"""Splits against their promises: every image once, shares kept, lesions whole."""

import dataclasses

import numpy as np
import pytest
from made_tables import SHARES, shares, skin, source_of

from bitkeras.data.leakage import leakage_audit
from bitkeras.data.splits import (
    PARTS,
    SPLITS,
    Split,
    lesion_split,
    unlabelled_split,
    with_fewer_to_train_on,
)
from bitkeras.errors import UserError


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
        assert leakage_audit(split, source)["num_test_images"] == 0


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


@pytest.mark.real_data
def test_lesion_split_on_ham10000(full_table):
    split = lesion_split(full_table, seed=0)
    assert leakage_audit(split, full_table)["overall"] == 0
    for part, share in shares(split, slice(None)).items():
        assert share == pytest.approx(SHARES[part], abs=0.002)
    for label in range(7):
        for part, share in shares(split, full_table.labels == label).items():
            assert share == pytest.approx(SHARES[part], abs=0.02)
