"""Pairs of photographs of one lesion: each photograph has a colour of its own, so that a view says which it shows."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.data import augment
from bitkeras.data.augment import Recipe
from bitkeras.data.batches import Share, view_batches
from bitkeras.data.positives import num_with_sister, sisters_of
from bitkeras.data.source import ImageSource
from bitkeras.errors import UserError

pytestmark = pytest.mark.usefixtures("small_groups")
SIZE, BATCH, SEED = 16, 4, 1
# Photographs of a lesion lie apart, as they do in a table.
LESIONS = np.array(list("abcabdaefgbhhijk"))
NUMBER = len(LESIONS)


@pytest.fixture(scope="module")
def source():
    images = [np.full((20 + n, 40 - n, 3), 10 + 14 * n, np.uint8) for n in range(NUMBER)]
    return ImageSource(
        name="colours",
        image_ids=np.array([f"photo_{n}" for n in range(NUMBER)]),
        encoded=np.array([tf.io.encode_png(image).numpy() for image in images], object),
        groups=LESIONS,
    )


@pytest.fixture(autouse=True)
def crop_only(monkeypatch):
    """A policy that leaves the colours alone."""
    quiet = Recipe(jitter_probability=0.0, grey_probability=0.0, blur_probability=0.0)
    monkeypatch.setitem(augment.RECIPES, "crop_only", quiet)


def batches(source, number, *, indices=None, policy="crop_only", positives="lesion", **more):
    options = {"policy": policy, "image_size": SIZE, "batch_size": BATCH, "seed": SEED, "positives": positives, **more}
    indices = np.arange(NUMBER) if indices is None else indices
    return list(view_batches(source, indices, **options).take(number).as_numpy_iterator())


def shown(views):
    """Which photograph each view is of."""
    level = (views.reshape(len(views), -1) + 1) * 127.5
    assert np.ptp(level, axis=1).max() < 1e-2
    return np.round((level[:, 0] - 10) / 14).astype(int)


def pairs_of(source, num_epochs, **more):
    """(index, photograph of view a, photograph of view b) of every pair, epoch by epoch."""
    indices = more.get("indices", np.arange(NUMBER))
    found = batches(source, num_epochs * (len(indices) // BATCH), **more)
    pairs = np.concatenate([np.stack([b["index"], shown(b["views_a"]), shown(b["views_b"])], axis=1) for b in found])
    return pairs.reshape(num_epochs, -1, 3)


def test_a_pair_shows_two_photographs_of_one_lesion_where_there_are_two(source):
    for index, first, second in pairs_of(source, 6).reshape(-1, 3):
        assert first == index and LESIONS[second] == LESIONS[index]
        assert (second == index) == (np.sum(LESIONS == LESIONS[index]) == 1)


def test_every_sister_comes_and_none_more_often_than_others(source):
    seconds = pairs_of(source, 150)
    for image in range(NUMBER):
        sisters = [n for n in range(NUMBER) if LESIONS[n] == LESIONS[image] and n != image]
        drawn = seconds[seconds[..., 0] == image][:, 2]
        assert len(drawn) == 150
        if len(sisters) > 1:
            # 75 of 150 each, with a deviation of 6.1.
            counts = [int((drawn == sister).sum()) for sister in sisters]
            assert sum(counts) == 150 and max(abs(count - 150 / len(sisters)) for count in counts) < 25
            # Drawn anew in every epoch, and not in turn.
            assert 40 < (drawn[1:] != drawn[:-1]).sum() < 110


def test_only_the_given_images_are_sisters(source):
    # Of lesion a one photograph is left, of b two, of h one.
    indices = np.array([0, 1, 4, 11, 13, 14, 15, 2])
    for index, first, second in pairs_of(source, 8, indices=indices).reshape(-1, 3):
        assert first == index and second in indices
        assert second == {1: 4, 4: 1}.get(index, index)
    assert num_with_sister(source, indices) == 2 and num_with_sister(source, np.arange(NUMBER)) == 8


def test_going_on_at_a_step_gives_the_same_batches(source):
    whole = batches(source, 13, policy="simsiam")
    rest = batches(source, 6, policy="simsiam", start_step=7)
    for one, other in zip(whole[7:], rest):
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_the_shares_of_processes_make_up_the_batch(source):
    whole = batches(source, 5, policy="simsiam", batch_size=8)
    parts = [batches(source, 5, policy="simsiam", batch_size=8, share=Share(process, 2, 2)) for process in range(2)]
    for step, batch in enumerate(whole):
        for key in batch:
            np.testing.assert_array_equal(np.concatenate([part[step][key] for part in parts]), batch[key])


def test_the_batch_does_not_decide_and_the_seed_does(source):
    views = [
        {int(i): view for batch in batches(source, 16 // size, policy="cifar", batch_size=size, **more)
         for i, view in zip(batch["index"], batch["views_b"])}
        for size, more in ((4, {}), (16, {}), (4, {"seed": 2}))
    ]  # fmt: skip
    for index in range(NUMBER):
        np.testing.assert_array_equal(views[0][index], views[1][index])
    assert sum(np.array_equal(views[0][index], views[2][index]) for index in range(NUMBER)) < 3


def test_the_order_is_that_of_image_pairs(source):
    orders = [
        np.concatenate([batch["index"] for batch in batches(source, 8, positives=kind)]) for kind in ("image", "lesion")
    ]
    np.testing.assert_array_equal(*orders)


def test_the_views_of_a_pair_are_cut_from_different_places():
    """Lesions of one photograph, and one with two copies: no two views are the same picture."""
    noise = np.random.default_rng(0).integers(0, 256, (8, 48, 48, 3), dtype=np.uint8)
    noise[7] = noise[6]
    source = ImageSource(
        name="noise",
        image_ids=np.array([f"n{i}" for i in range(8)]),
        encoded=np.array([tf.io.encode_png(image).numpy() for image in noise], object),
        groups=np.array([*"abcdef", "g", "g"]),
    )
    (batch,) = batches(source, 1, indices=np.arange(8), batch_size=8)
    views = np.concatenate([batch["views_a"], batch["views_b"]])
    for one in range(16):
        for other in range(one):
            assert np.abs(views[one] - views[other]).max() > 0.01


def test_the_partners_of_a_batch_are_known_without_making_it(source):
    pairs = pairs_of(source, 3)
    for epoch, rows in enumerate(pairs):
        sisters = sisters_of(source, np.arange(NUMBER), rows[:, 0], seed=SEED, epochs=np.full(NUMBER, epoch))
        np.testing.assert_array_equal(sisters, rows[:, 2])


def test_labels_are_not_looked_at(source):
    labelled = dataclasses.replace(source, labels=np.arange(NUMBER, dtype=np.int32) % 2, class_names=("x", "y"))
    for one, other in zip(batches(source, 4), batches(labelled, 4)):
        np.testing.assert_array_equal(one["views_b"], other["views_b"])


@pytest.mark.slow
def test_keras_cv_makes_pairs_too(source):
    for batch in batches(source, 2, policy="keras_cv"):
        assert batch["views_b"].shape == (BATCH, SIZE, SIZE, 3) and np.isfinite(batch["views_b"]).all()


def test_no_python_runs_for_a_pair(source):
    """No more than is there for files that TensorFlow cannot decode."""
    options = {"policy": "simsiam", "image_size": SIZE, "batch_size": BATCH, "seed": 0}
    of_images, of_lesions = (
        view_batches(source, np.arange(NUMBER), **options, positives=positives) for positives in ("image", "lesion")
    )
    with_python = of_images.map(lambda batch: tf.numpy_function(np.mean, [batch["views_a"]], tf.float32))
    graphs = [dataset._as_serialized_graph().numpy() for dataset in (of_images, of_lesions, with_python)]
    python = [len(re.findall(rb"PyFunc", graph)) for graph in graphs]
    assert python[1] == python[0] < python[2]


def test_a_source_without_lesions_is_refused_with_the_reason(source):
    with pytest.raises(UserError, match="colours names no lesions; pass --positives=image"):
        batches(dataclasses.replace(source, groups=None), 1)
