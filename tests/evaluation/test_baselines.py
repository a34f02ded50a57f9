import warnings

import numpy as np
import pytest
from reference import evaluation_reference as reference

from bitkeras.evaluation.baselines import majority_baseline, pixel_baseline


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        # Warnings of the baselines themselves; NumPy's own, raised inside TensorFlow's import, are not theirs.
        warnings.simplefilter("error", UserWarning)
        yield


def coloured(count, seed=0, side=20):
    """Noise images, brighter in the channel of their class; every third class is rare."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, count, p=[0.6, 0.3, 0.1])
    labels[:3] = [0, 1, 2]
    pixels = rng.uniform(-1, 1, [count, side, side, 3]) + 0.4 * np.eye(3)[labels][:, None, None, :]
    return pixels.astype(np.float32), labels


def test_majority_names_the_commonest_training_class():
    predictions = majority_baseline(np.array([1, 2, 2, 0]), np.array([0, 0, 1, 4, 4]), 5)
    assert predictions.dtype == np.int32
    np.testing.assert_array_equal(predictions, [2] * 5)
    # Of several equally common ones the lowest, and the test labels decide nothing.
    np.testing.assert_array_equal(majority_baseline(np.array([3, 1, 1, 3]), np.array([0, 0]), 4), [1, 1])


def test_majority_scores_chance():
    labels = np.repeat(np.arange(4), 5)
    assert reference.balanced_accuracy(labels, majority_baseline(labels, labels, 4)) == 1 / 4


@pytest.mark.parametrize("side", [20, 16, 9])
def test_pixels_beat_chance_where_colour_tells_the_class(side):
    train, test = coloured(120, side=side), coloured(90, seed=1, side=side)
    predictions = pixel_baseline(*train, test[0])
    assert predictions.shape == (90,) and predictions.dtype == np.int32
    assert reference.balanced_accuracy(test[1], predictions) > 0.8


def test_pixels_score_chance_on_noise():
    rng = np.random.default_rng(0)
    train, test = (rng.uniform(-1, 1, [n, 8, 8, 3]).astype(np.float32) for n in (300, 600))
    predictions = pixel_baseline(train, rng.integers(0, 2, 300), test, image_size=4)
    assert abs(reference.balanced_accuracy(rng.integers(0, 2, 600), predictions) - 0.5) < 0.08


def test_more_images_than_one_chunk_keep_their_order():
    train, test = coloured(300, side=6), coloured(300, seed=1, side=6)
    predictions = pixel_baseline(*train, test[0], image_size=2)
    np.testing.assert_array_equal(predictions[256:], pixel_baseline(*train, test[0][256:], image_size=2))


def test_pixels_of_one_class_name_it():
    pixels, _ = coloured(10)
    np.testing.assert_array_equal(pixel_baseline(pixels, np.full(10, 3), pixels[:4]), [3] * 4)


def test_a_black_border_and_a_seed():
    pixels, labels = coloured(60)
    pixels[:, :4] = -1
    first, again = (pixel_baseline(pixels, labels, pixels, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first, again)
