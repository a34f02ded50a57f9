import warnings

import numpy as np
import pytest
from reference import evaluation_reference as reference

from bitkeras.errors import UserError
from bitkeras.evaluation import collapse
from bitkeras.evaluation.collapse import alignment, explained_variance_auc, feature_spread, projector_spread


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def features_of(count, dims, mean=0.4, seed=0):
    return np.random.default_rng(seed).normal(mean, 1, [count, dims]).astype(np.float32)


@pytest.mark.parametrize("shape", [(2, 3), (40, 7), (7, 40), (30, 30)])
def test_figures_are_those_of_slow_loops(shape):
    features = features_of(*shape)
    figures = feature_spread(features)
    assert figures["mean_pairwise_cosine"] == pytest.approx(reference.mean_pairwise_cosine(features), abs=1e-9)
    assert figures["spread"] == pytest.approx(reference.spread(features), rel=1e-6)
    assert figures["rankme"] == pytest.approx(reference.rankme(features), rel=1e-6)
    assert figures["uniformity"] == pytest.approx(reference.uniformity(features), rel=1e-6)
    auc = reference.explained_variance_auc(features)
    assert figures["explained_variance_auc"] == pytest.approx(auc, rel=1e-6)
    std, mean = features.std(axis=0), features.mean(axis=0)
    assert figures["std_to_mean"] == pytest.approx(np.linalg.norm(std) / np.linalg.norm(mean), rel=1e-5)
    assert figures["num_images"] == shape[0]
    assert all(type(value) is float for value in figures.values())


@pytest.mark.parametrize("shape", [(2, 1), (2, 8), (50, 8), (8, 50), (400, 512)])
def test_constant_features_are_told_as_collapsed(shape):
    figures = feature_spread(np.tile(features_of(1, shape[1]), [shape[0], 1]))
    assert figures["mean_pairwise_cosine"] == pytest.approx(1, abs=1e-9)
    assert figures["spread"] == pytest.approx(0, abs=1e-6)
    assert figures["std_to_mean"] == pytest.approx(0, abs=1e-6)
    assert figures["explained_variance_auc"] == 1
    assert figures["uniformity"] == pytest.approx(0, abs=1e-9)
    # Eigenvalues hold 16 digits, their roots 8, and several hundred of those add up.
    assert figures["rankme"] == pytest.approx(1, abs=1e-3)


def test_nearly_constant_features_are_told_although_a_batch_norm_would_hide_them():
    features = 1 + 1e-6 * features_of(200, 16, mean=0).astype(np.float64)
    figures = feature_spread(features)
    assert figures["mean_pairwise_cosine"] > 1 - 1e-9
    assert figures["spread"] < 1e-4 and figures["std_to_mean"] < 1e-4 and figures["rankme"] < 1.001
    assert figures["uniformity"] > -1e-9
    # What is left varies in every direction; only the length of the mean tells that it is nothing.
    assert figures["explained_variance_auc"] < 0.7
    normalised = (features - features.mean(axis=0)) / features.std(axis=0)
    assert feature_spread(normalised)["spread"] > 0.95


def test_all_zero_features_give_numbers():
    figures = feature_spread(np.zeros([5, 3], np.float32))
    assert figures["rankme"] == 1 and figures["spread"] == 0 and figures["uniformity"] == 0
    assert np.isfinite(list(figures.values())).all()


def test_one_direction_has_rank_one():
    signs = np.array([1, -1, 1, -1, 1, -1.0])[:, None]
    figures = feature_spread(signs * np.array([[3.0, 4.0]]))
    assert figures["rankme"] == pytest.approx(1, abs=1e-6)
    # 6 pairs of the same sign, 9 of opposite ones.
    assert figures["mean_pairwise_cosine"] == pytest.approx(-3 / 15)
    # Pairs at distance 0 and 2.
    assert figures["uniformity"] == pytest.approx(np.log((6 + 9 * np.exp(-8)) / 15))
    assert figures["explained_variance_auc"] == pytest.approx((1 + 1) / 2)
    # Units are +-(0.6, 0.8): deviations 0.6 and 0.8, mean 0.7, times sqrt(2).
    assert figures["spread"] == pytest.approx(0.7 * np.sqrt(2))


def test_one_feature():
    assert feature_spread(np.array([[1.0], [2.0], [5.0]]))["rankme"] == pytest.approx(1)


@pytest.mark.parametrize(("count", "dims"), [(2000, 10), (10, 2000)])
def test_isotropic_features_are_healthy(count, dims):
    figures = feature_spread(features_of(count, dims, mean=0))
    if count > dims:
        assert figures["spread"] == pytest.approx(1, abs=0.02)
    assert abs(figures["mean_pairwise_cosine"]) < 0.02
    assert 0.97 * 10 < figures["rankme"] <= 10 + 1e-6


def test_orthonormal_rows_reach_the_bounds():
    figures = feature_spread(np.eye(6))
    assert figures["rankme"] == pytest.approx(6)
    assert figures["mean_pairwise_cosine"] == pytest.approx(0, abs=1e-12)
    assert figures["uniformity"] == pytest.approx(-4)
    # Five directions are left around the mean, all alike: 1/5 + 2/5 + ... + 5/5 over 5.
    assert figures["explained_variance_auc"] == pytest.approx(0.6)


@pytest.mark.parametrize("scale", [1e-30, 1e-3, 1e3, 1e30])
def test_scale_and_order_do_not_matter(scale):
    features = features_of(30, 8)
    scaled = feature_spread(features[::-1].astype(np.float64) * scale)
    for name, value in feature_spread(features).items():
        assert scaled[name] == pytest.approx(value, rel=1e-6), name


def test_one_image_has_no_spread():
    with pytest.raises(UserError, match="asked of 1 images; give at least 2"):
        feature_spread(np.ones([1, 3]))


@pytest.mark.parametrize("variances", [[1, 1, 1, 1], [8, 4, 2, 1], [1, 1e-3, 1e-6, 1e-9], [3, 0, 0, 0]])
def test_the_area_is_that_of_the_variances_that_are_there(variances):
    # Axes of a cross: two points at +-a on each axis have the variance a^2 there, up to a common factor.
    points = np.concatenate([sign * np.diag(np.sqrt(variances)) for sign in (1, -1)]) + 5
    heights = np.cumsum(variances) / np.sum(variances)
    assert explained_variance_auc(points) == pytest.approx(np.mean(heights), abs=1e-9)


def test_few_images_in_many_dimensions_are_not_called_collapsed_by_the_area():
    few, many = (explained_variance_auc(features_of(count, 256, mean=0)) for count in (16, 4096))
    assert few < 0.65 and many < 0.65
    assert explained_variance_auc(features_of(4096, 256, mean=0) * 0.5 ** np.arange(256)) > 0.99


def test_the_pairs_are_summed_alike_in_chunks(monkeypatch):
    features = features_of(101, 7)
    whole = feature_spread(features)["uniformity"]
    monkeypatch.setattr(collapse, "_CHUNK_ENTRIES", 1000)
    assert feature_spread(features)["uniformity"] == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("shape", [(1, 3), (40, 7)])
def test_alignment_is_that_of_slow_loops(shape):
    features_a, features_b = features_of(*shape), features_of(*shape, seed=1)
    assert alignment(features_a, features_b) == pytest.approx(reference.alignment(features_a, features_b), rel=1e-6)
    assert alignment(features_a, 3 * features_a) == pytest.approx(0, abs=1e-12)
    assert alignment(features_a, -features_a) == pytest.approx(4)


def test_projections_have_the_figures_of_features_under_names_of_their_own():
    projections = features_of(30, 8) * 1e20
    figures = projector_spread(projections)
    assert set(figures) == {"projector_spread", "projector_rankme"}
    assert figures["projector_spread"] == pytest.approx(reference.spread(projections), rel=1e-6)
    assert figures["projector_rankme"] == pytest.approx(reference.rankme(projections), rel=1e-6)


def test_scaling_every_dimension_as_a_batch_norm_does_brings_no_rank_back():
    # Three directions in 64 dimensions, all of them even after the norm.
    projections = features_of(200, 3, mean=0) @ features_of(3, 64, mean=0, seed=1)
    normalised = (projections - projections.mean(axis=0)) / projections.std(axis=0)
    figures = projector_spread(normalised)
    assert figures["projector_spread"] > 0.9 and figures["projector_rankme"] < 3.001
