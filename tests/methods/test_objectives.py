import numpy as np
import pytest
import tensorflow as tf
from reference import simclr_reference, vicreg_reference

from bitkeras.methods.objectives import (
    gathered,
    negative_cosine,
    nt_xent,
    squared_covariance,
    squared_difference,
    variance_shortfall,
    vicreg,
)


def test_agreement_opposition_and_right_angles():
    vectors = tf.constant([[3.0, 4.0], [1.0, 0.0]])
    assert float(negative_cosine(vectors, 7.0 * vectors)) == pytest.approx(-1.0)
    assert float(negative_cosine(vectors, -vectors)) == pytest.approx(1.0)
    assert float(negative_cosine(vectors, tf.constant([[-4.0, 3.0], [0.0, 2.0]]))) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16])
def test_long_half_precision_vectors_keep_their_angle(dtype):
    # The sum of squares is 819,200, far over float16's largest number.
    vectors = tf.cast(tf.fill([2, 2048], 20.0), dtype)
    loss = negative_cosine(vectors, vectors)
    assert loss.dtype == tf.float32
    np.testing.assert_allclose(loss, -1.0, atol=1e-6)


def vectors(*shape, seed=0):
    return np.random.default_rng(seed).normal(0.3, 1.5, shape)


def float32(*arrays):
    return [tf.constant(array, tf.float32) for array in arrays]


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_nt_xent_is_algorithm_1(temperature):
    a, b = vectors(7, 3), vectors(7, 3, seed=1)
    expected = simclr_reference.nt_xent(a, b, temperature)
    assert float(nt_xent(*float32(a, b), temperature=temperature)) == pytest.approx(expected, rel=1e-5)


def test_nt_xent_of_one_point_is_chance_and_of_found_partners_is_nothing():
    same = tf.ones([5, 4])
    assert float(nt_xent(same, same, temperature=0.1)) == pytest.approx(simclr_reference.log_chance(5), rel=1e-6)
    apart = 3.0 * tf.eye(4)
    assert float(nt_xent(apart, 2.0 * apart, temperature=0.01)) == pytest.approx(0.0, abs=1e-6)


def test_nt_xent_of_half_precision_is_computed_in_float32():
    a, b = (tf.cast(30.0 * tf.constant(vectors(4, 2048, seed=seed)), tf.float16) for seed in (0, 1))
    loss = nt_xent(a, b, temperature=0.05)
    expected = simclr_reference.nt_xent(*(array.numpy().astype(np.float64) for array in (a, b)), 0.05)
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(expected, rel=1e-4)


# More dimensions than images, as published, and fewer.
@pytest.mark.parametrize("shape", [(4, 9), (12, 5)])
def test_vicregs_terms_are_those_of_the_released_code(shape):
    a, b = 0.4 * vectors(*shape), 0.4 * vectors(*shape, seed=1)
    views = float32(a, b)
    assert float(squared_difference(*views)) == pytest.approx(vicreg_reference.invariance_term(a, b), rel=1e-5)
    assert float(variance_shortfall(views[0])) == pytest.approx(vicreg_reference.variance_term(a), rel=1e-5)
    assert float(squared_covariance(views[0])) == pytest.approx(vicreg_reference.covariance_term(a), rel=1e-4)
    assert float(vicreg(*views)) == pytest.approx(vicreg_reference.vicreg(a, b), rel=1e-5)


def test_vicregs_terms_by_hand():
    """Two dimensions that are one, twice as wide as they must be: a variance of 16/3 and a covariance of 16/3."""
    projections = tf.constant([[2.0, 2.0], [-2.0, -2.0], [2.0, 2.0], [-2.0, -2.0]])
    assert float(variance_shortfall(projections)) == 0
    assert float(squared_covariance(projections)) == pytest.approx((16 / 3) ** 2, rel=1e-6)
    assert float(squared_difference(projections, -projections)) == 16
    # One point: the standard deviation is the root of epsilon.
    assert float(variance_shortfall(tf.ones([3, 2]))) == pytest.approx(0.99)
    uncorrelated = tf.constant([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert float(squared_covariance(uncorrelated)) == pytest.approx(0.0, abs=1e-6)


def test_vicreg_of_half_precision_is_computed_in_float32():
    a, b = (tf.cast(200.0 * tf.constant(vectors(8, 16, seed=seed)), tf.float16) for seed in (0, 1))
    loss = vicreg(a, b)
    expected = vicreg_reference.vicreg(*(array.numpy().astype(np.float64) for array in (a, b)))
    assert loss.dtype == tf.float32
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def test_on_one_replica_what_is_gathered_is_what_was_given():
    projections = tf.constant(vectors(3, 2), tf.float16)
    np.testing.assert_array_equal(gathered(projections), tf.cast(projections, tf.float32))
