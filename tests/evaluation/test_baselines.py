import warnings

import numpy as np
import pytest
from reference import evaluation_reference as reference

from bitkeras.evaluation.baselines import colour_histograms, histogram_baseline, majority_baseline, pixel_baseline


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


def test_histograms_are_numpys():
    images = np.random.default_rng(0).uniform(-1, 1, [3, 7, 5, 3]).astype(np.float32)
    found = colour_histograms(images, num_bins=4)
    for row, image in zip(found, images):
        counts, _ = np.histogramdd(image.reshape(-1, 3), bins=4, range=[(-1, 1)] * 3)
        np.testing.assert_allclose(row**2, counts.ravel() / 35, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)
    # White and black are in the last and the first cube, and an empty batch has columns.
    extremes = colour_histograms(np.stack([np.ones([2, 2, 3]), -np.ones([2, 2, 3])]).astype(np.float32))
    assert extremes.argmax(axis=1).tolist() == [511, 0]
    assert colour_histograms(np.zeros([0, 2, 2, 3], np.float32)).shape == (0, 512)


def histograms_and_labels(seed=0):
    parts = {part: coloured(120, seed=seed + n) for n, part in enumerate(("probe_train", "probe_val", "test"))}
    return {part: colour_histograms(pixels) for part, (pixels, _) in parts.items()}, {
        part: labels for part, (_, labels) in parts.items()
    }


def test_histograms_tell_classes_by_colour_but_not_at_random():
    histograms, labels = histograms_and_labels()
    probabilities = histogram_baseline(histograms, labels, 3)
    assert probabilities.shape == (120, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert reference.balanced_accuracy(labels["test"], probabilities.argmax(axis=1)) > 0.8
    shuffled = {part: np.random.default_rng(9).permutation(given) for part, given in labels.items()}
    probabilities = histogram_baseline(histograms, shuffled, 3)
    assert abs(reference.balanced_accuracy(shuffled["test"], probabilities.argmax(axis=1)) - 1 / 3) < 0.15


def test_a_class_without_training_images_gets_nothing():
    histograms, labels = histograms_and_labels()
    labels["probe_train"] = np.where(labels["probe_train"] == 2, 3, labels["probe_train"])
    probabilities = histogram_baseline(histograms, labels, 5)
    assert (probabilities[:, [2, 4]] == 0).all() and (probabilities[:, [0, 1, 3]] > 0).all()
    labels["probe_train"] = np.full(120, 1)
    np.testing.assert_array_equal(histogram_baseline(histograms, labels, 3), np.tile([0, 1, 0], [120, 1]))
