"""Random crops and flips of labelled images, each of a colour of its own."""

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.data.batches import labelled_batches
from bitkeras.data.source import ImageSource

pytestmark = pytest.mark.usefixtures("small_groups")
NUMBER, BATCH, SIZE = 23, 5, 16


@pytest.fixture(scope="module")
def source():
    """The left half of image n is 10 n grey, the right half black."""
    images = [np.zeros([20 + n, 30, 3], np.uint8) for n in range(NUMBER)]
    for n, image in enumerate(images):
        image[:, :15] = 10 * n + 20
    return ImageSource(
        name="halves",
        image_ids=np.array([str(n) for n in range(NUMBER)]),
        encoded=np.array([tf.io.encode_png(image).numpy() for image in images], object),
        labels=np.arange(NUMBER, dtype=np.int32) * 3,
        class_names=tuple(map(str, range(3 * NUMBER))),
    )


def take(source, number, *, indices=None, **kwargs):
    options = {"crop_area": (0.9, 1.0), "image_size": SIZE, "batch_size": BATCH, "seed": 3, **kwargs}
    indices = np.arange(NUMBER) if indices is None else indices
    return list(labelled_batches(source, indices, **options).take(number).as_numpy_iterator())


def shown(batch):
    """The grey level that each image of a batch shows, in the form of its label."""
    brightest = (batch["images"].max(axis=(1, 2, 3)) + 1) * 127.5
    return np.round((brightest - 20) / 10).astype(int) * 3


def test_every_image_comes_once_an_epoch_with_its_own_label(source):
    batches = take(source, 8)
    for batch in batches:
        assert batch["images"].shape == (BATCH, SIZE, SIZE, 3) and batch["images"].dtype == np.float32
        assert np.abs(batch["images"]).max() <= 1
        np.testing.assert_array_equal(shown(batch), batch["labels"])
    epochs = [np.concatenate([batch["labels"] for batch in batches[start : start + 4]]) for start in (0, 4)]
    assert [len(set(epoch)) for epoch in epochs] == [20, 20]
    assert list(epochs[0]) != list(epochs[1])


def test_only_the_images_asked_for_come(source):
    chosen = np.array([2, 3, 5, 7, 11, 13])
    labels = np.concatenate([batch["labels"] for batch in take(source, 12, indices=chosen)])
    assert set(labels) == set(chosen * 3)


def test_flips_are_drawn_for_each_image_and_not_for_a_batch(source):
    flipped = [
        batch["images"][:, :, -1].mean(axis=(1, 2)) > batch["images"][:, :, 0].mean(axis=(1, 2))
        for batch in take(source, 80)
    ]
    assert 0.4 < np.mean(flipped) < 0.6
    assert np.mean([0 < np.sum(batch) < BATCH for batch in flipped]) > 0.8


def test_crops_differ_in_size_as_asked(source):
    """A crop's width says how much of the dark half is in it; a whole image shows one half."""
    whole = [np.mean(batch["images"] > -0.9) for batch in take(source, 20, crop_area=(1.0, 1.0))]
    parts = np.concatenate(
        [(batch["images"] > -0.9).mean(axis=(1, 2, 3)) for batch in take(source, 20, crop_area=(0.2, 0.3))]
    )
    assert np.std(whole) < 0.05 < np.std(parts)


def test_a_run_that_goes_on_sees_what_an_uninterrupted_one_sees(source):
    whole, rest = take(source, 7), take(source, 2, start_step=5)
    for one, other in zip(whole[5:], rest):
        np.testing.assert_array_equal(one["images"], other["images"])
        np.testing.assert_array_equal(one["labels"], other["labels"])
    assert not np.array_equal(whole[0]["images"], take(source, 1, seed=4)[0]["images"])
