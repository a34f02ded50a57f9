"""Folds against their promises: together they test every image once, grouped and stratified as their split."""

import dataclasses

import numpy as np
import pytest
from made_tables import shares, skin, source_of

from bitkeras.data.folds import fold_split
from bitkeras.data.leakage import leakage_audit
from bitkeras.data.splits import PARTS, SPLITS, unlabelled_split
from bitkeras.errors import UserError


def folds_of(source, name, num_folds=5, seed=0):
    return [fold_split(source, name, num_folds=num_folds, fold=fold, seed=seed) for fold in range(num_folds)]


def assert_cross_validation(source, name, num_folds, seed, tolerance):
    """`tolerance`: images of a class by which a test part may miss its share, beside rounding."""
    folds = folds_of(source, name, num_folds, seed)
    tested = np.stack([split.parts == "test" for split in folds])
    assert (tested.sum(axis=0) == 1).all()
    of_class = source.labels == np.arange(len(source.class_names))[:, None]
    counts = of_class.astype(int) @ tested.T.astype(int)
    expected = of_class.sum(axis=1, keepdims=True) / num_folds
    assert np.abs(counts - expected).max() <= tolerance
    for split in folds:
        together = np.concatenate([split.indices(part) for part in PARTS])
        assert sorted(together) == list(range(len(source)))
        if name == "lesion" and source.groups is not None:
            for lesion in np.unique(source.groups):
                assert len(set(split.parts[source.groups == lesion])) == 1
    return folds


@pytest.mark.parametrize("name", SPLITS)
@pytest.mark.parametrize(("num_folds", "seed"), [(2, 0), (5, 1), (10, 2)])
def test_folds_of_skin_lesions(name, num_folds, seed):
    source = skin(600, seed=seed)
    folds = assert_cross_validation(source, name, num_folds, seed, tolerance=4)
    test = 1 / num_folds
    for split in folds:
        expected = {"pretrain": 0.75, "probe_train": 0.125, "probe_val": 0.125}
        found = shares(split, slice(None))
        assert found["test"] == pytest.approx(test, abs=0.01)
        for part, share in expected.items():
            assert found[part] == pytest.approx(share * (1 - test), abs=0.01)
        leaks = leakage_audit(split, source)["overall"]
        assert leaks == 0 if name == "lesion" else leaks > 0.05


@pytest.mark.parametrize("name", SPLITS)
def test_folds_of_random_tables(name):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        sizes = rng.choice([1, 2, 5], rng.integers(60, 120), p=[0.6, 0.3, 0.1])
        labels = np.repeat(rng.choice(3, len(sizes), p=[0.1, 0.3, 0.6]), sizes)
        groups = np.repeat(np.arange(len(sizes)), sizes).astype(str)
        source = source_of(labels, groups if seed % 3 else None, class_names=("a", "b", "c"))
        assert_cross_validation(source, name, int(rng.integers(2, 7)), seed, tolerance=6)


def test_the_seed_decides():
    source = skin(200)
    for name in SPLITS:
        one, same, other = (folds_of(source, name, seed=seed)[2].parts for seed in (0, 0, 1))
        assert (one == same).all() and (one != other).any()


def test_without_lesions_the_classes_are_even_to_an_image():
    source = source_of(np.repeat([0, 1, 2], [500, 53, 7]))
    for split in folds_of(source, "lesion"):
        assert np.abs(np.bincount(source.labels[split.indices("test")]) - [100, 10.6, 1.4]).max() < 2


@pytest.mark.parametrize(
    ("change", "asked", "message"),
    [
        ({}, {"fold": 5}, "no fold 5 of 5"),
        ({}, {"fold": -1}, "no fold -1 of 5"),
        ({}, {"num_folds": 1, "fold": 0}, "no fold 0 of 1"),
        ({"labels": None, "class_names": ()}, {}, "no labels"),
        ({"official_test": np.arange(90) == 0}, {}, "released test part"),
    ],
)
def test_what_is_refused(change, asked, message):
    source = dataclasses.replace(source_of([0] * 90), **change)
    with pytest.raises(UserError, match=message):
        fold_split(source, "paper", **{"num_folds": 5, "fold": 0, "seed": 0, **asked})


def test_too_few_lesions_are_told():
    source = source_of([0] * 12, groups=list("aaaabbbbcccc"))
    with pytest.raises(UserError, match="holds no image|without images"):
        folds_of(source, "lesion")
    assert len(unlabelled_split(source).indices("pretrain")) == 12


@pytest.mark.real_data
@pytest.mark.parametrize("name", SPLITS)
def test_folds_of_ham10000(full_table, name):
    folds = folds_of(full_table, name)
    tested = np.stack([split.parts == "test" for split in folds])
    assert (tested.sum(axis=0) == 1).all() and set(tested.sum(axis=1)) == {2003}
    for split in folds:
        counts = np.bincount(full_table.labels[split.indices("test")])
        assert np.abs(counts - np.bincount(full_table.labels) / 5).max() < 3
        if name == "lesion":
            assert leakage_audit(split, full_table)["overall"] == 0
            inside = {lesion: part for lesion, part in zip(full_table.groups, split.parts)}
            assert all(inside[lesion] == part for lesion, part in zip(full_table.groups, split.parts))
