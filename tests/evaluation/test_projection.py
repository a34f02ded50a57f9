import warnings

import numpy as np
import pytest

from bitkeras.evaluation.projection import tsne


def clusters(count=60, dims=20, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return (rng.normal(0, 1, [count, dims]) + 12 * np.eye(3, dims)[labels]).astype(np.float32), labels


def test_neighbours_on_the_map_are_of_one_cluster_and_the_same_seed_gives_the_same_map():
    features, labels = clusters()
    points = tsne(features, seed=1, perplexity=10)
    assert points.shape == (60, 2) and points.dtype == np.float32
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(60)
    assert (labels[distances.argmin(axis=1)] == labels).mean() > 0.95
    np.testing.assert_array_equal(points, tsne(features, seed=1, perplexity=10))


@pytest.mark.parametrize("shape", [(1, 3), (3, 3), (4, 3), (5, 64), (5, 1)])
def test_few_points_or_few_features(shape):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        points = tsne(np.random.default_rng(0).normal(0, 1, shape).astype(np.float32))
    assert points.shape == (shape[0], 2) and np.isfinite(points).all()


@pytest.mark.parametrize("value", [0.0, 0.1, 1e30])
def test_features_that_are_all_the_same_lie_on_one_point(value):
    np.testing.assert_array_equal(tsne(np.full([10, 4], value, np.float32)), np.zeros([10, 2]))


def test_collapsed_but_not_equal_features_give_numbers():
    features = 1 + 1e-6 * np.random.default_rng(0).normal(0, 1, [12, 8])
    assert np.isfinite(tsne(features)).all()
