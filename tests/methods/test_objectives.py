import numpy as np
import pytest
import tensorflow as tf

from bitkeras.methods.objectives import negative_cosine


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
