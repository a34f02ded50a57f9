import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.errors import UserError
from bitkeras.evaluation.features import encode

SIDE = 4


def small_encoder(seed=0, dtype=None):
    """A convolution and a batch norm whose statistics are neither 0 and 1 nor those of any batch here."""
    images = tf.keras.Input([SIDE, SIDE, 3])
    x = tf.keras.layers.Conv2D(5, 3, dtype=dtype)(images)
    x = tf.keras.layers.BatchNormalization(dtype=dtype)(x)
    encoder = tf.keras.Model(images, tf.keras.layers.GlobalAveragePooling2D(dtype=dtype)(x))
    rng = np.random.default_rng(seed)
    encoder.set_weights([rng.uniform(0.5, 2, w.shape) for w in encoder.get_weights()])
    return encoder


def images_of(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, [count, SIDE, SIDE, 3]).astype(np.float32)


def batches_of(*arrays, batch=4):
    return tf.data.Dataset.from_tensor_slices(arrays[0] if len(arrays) == 1 else arrays).batch(batch)


def test_features_are_the_encoder_in_inference_mode_in_the_order_given():
    encoder, images = small_encoder(), images_of(10)
    features = encode(encoder, batches_of(images))
    expected = np.concatenate([encoder(image[None], training=False) for image in images])
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(features - encoder(images, training=True)).max() > 0.1


def test_statistics_of_batch_norm_are_left_alone():
    encoder = small_encoder()
    before = encoder.get_weights()
    encode(encoder, batches_of(images_of(10)))
    for old, new in zip(before, encoder.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_labels_come_back_beside_their_images():
    encoder, images, labels = small_encoder(), images_of(7), np.arange(7)[::-1].astype(np.int64)
    features, found = encode(encoder, batches_of(images, labels))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, labels)
    np.testing.assert_array_equal(features, encode(encoder, batches_of(images)))


@pytest.mark.parametrize("batch", [1, 3, 7, 20])
def test_batch_size_does_not_matter(batch):
    encoder, images = small_encoder(), images_of(7)
    np.testing.assert_allclose(
        encode(encoder, batches_of(images, batch=batch)), encode(encoder, batches_of(images)), rtol=1e-5, atol=1e-6
    )


def test_half_precision_comes_back_as_float32():
    encoder, images = small_encoder(dtype="mixed_bfloat16"), images_of(5)
    assert encoder(images).dtype == tf.bfloat16
    features = encode(encoder, batches_of(images))
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, encode(small_encoder(), batches_of(images)), rtol=0.05, atol=0.1)


def test_features_that_are_not_finite_are_named():
    images = images_of(10)
    images[6, 0, 0, 0] = np.nan
    images[7, 0, 0, 0] = np.inf
    with pytest.raises(FloatingPointError, match=r"batch 1 are not finite for 2 of its 4 images.*image 6,.*calibrated"):
        encode(small_encoder(), batches_of(images))


def test_no_images_is_the_users_mistake():
    with pytest.raises(UserError, match="no images to encode"):
        encode(small_encoder(), batches_of(images_of(0)))


def test_two_encoders_in_turn_do_not_mix():
    encoders, images = [small_encoder(1), small_encoder(2)], images_of(5)
    expected = [encoder(images, training=False).numpy() for encoder in encoders]
    for turn in (0, 1, 0, 1):
        np.testing.assert_allclose(encode(encoders[turn], batches_of(images)), expected[turn], rtol=1e-5, atol=1e-5)


def test_new_weights_are_seen_and_nothing_is_traced_again():
    traces = []

    class Counted(tf.keras.layers.Layer):
        def call(self, inputs):
            traces.append(inputs.shape)
            return tf.reduce_mean(inputs, [1, 2])

    inputs = tf.keras.Input([SIDE, SIDE, 3])
    encoder = tf.keras.Model(inputs, tf.keras.layers.Dense(2)(Counted()(inputs)))
    images = images_of(7)
    encode(encoder, batches_of(images))
    first = len(traces)
    encoder.set_weights([w + 1 for w in encoder.get_weights()])
    for batch in (2, 3, 7):
        features = encode(encoder, batches_of(images, batch=batch))
    assert len(traces) == first
    expected = images.mean(axis=(1, 2)) @ encoder.get_weights()[0] + encoder.get_weights()[1]
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5)


def test_images_of_another_size_are_encoded_too():
    inputs = tf.keras.Input([None, None, 3])
    encoder = tf.keras.Model(inputs, tf.keras.layers.GlobalAveragePooling2D()(inputs))
    for side in (4, 6, 4):
        images = np.full([2, side, side, 3], side, np.float32)
        np.testing.assert_allclose(encode(encoder, batches_of(images)), side)


def test_an_encoder_nobody_holds_is_freed():
    encoder = small_encoder()
    encode(encoder, batches_of(images_of(2)))
    gone = weakref.ref(encoder)
    del encoder
    tf.keras.backend.clear_session()
    gc.collect()
    assert gone() is None


def test_progress_counts_images():
    counts = []
    encode(small_encoder(), batches_of(images_of(10)), progress=counts.append)
    assert counts == [4, 8, 10]
