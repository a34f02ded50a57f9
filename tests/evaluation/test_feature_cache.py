import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.data import ImageSource
from bitkeras.evaluation import feature_cache
from bitkeras.evaluation.feature_cache import FeatureCache, features_key, images_digest
from bitkeras.evaluation.features import encoder_digest, frozen
from bitkeras.precision import precision_policy

KEY = features_key("encoder", "images", part="test", image_size=64)
FEATURES = np.random.default_rng(0).normal(size=[7, 5]).astype(np.float32)


def refuse():
    raise AssertionError("these features are on disk")


def source_of(count, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, [count, 8, 8, 3], np.uint8)
    encoded = np.array([*map(lambda image: tf.io.encode_png(image).numpy(), images), None], object)[:-1]
    return ImageSource(name="csv", image_ids=np.array([f"i{n}" for n in range(count)]), encoded=encoded)


def encoder_of(seed=0, activation="relu"):
    tf.keras.utils.set_random_seed(seed)
    images = tf.keras.Input([None, None, 3], name="images")
    x = tf.keras.layers.Conv2D(4, 3, activation=activation, name="conv")(images)
    x = tf.keras.layers.BatchNormalization(name="norm")(x)
    return tf.keras.Model(images, tf.keras.layers.GlobalAveragePooling2D(name="features")(x), name="small")


def test_features_are_computed_once_and_come_back_bit_for_bit(tmp_path):
    said = []
    first = FeatureCache(tmp_path / "features", say=said.append).features(KEY, lambda: FEATURES)
    again = FeatureCache(tmp_path / "features", say=said.append).features(KEY, refuse)
    np.testing.assert_array_equal(first, FEATURES)
    np.testing.assert_array_equal(again, FEATURES)
    assert again.dtype == np.float32 and not said
    assert [path.name for path in (tmp_path / "features").iterdir()] == [f"{KEY}.features"]


def test_no_folder_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache, calls = FeatureCache("", say=refuse), []
    for _ in range(2):
        cache.features(KEY, lambda: calls.append(1) or FEATURES)
    assert len(calls) == 2 and not list(tmp_path.iterdir())


def test_any_damaged_byte_is_noticed_and_mended(tmp_path):
    said = []
    cache, path = FeatureCache(tmp_path, say=said.append), tmp_path / f"{KEY}.features"
    cache.features(KEY, lambda: FEATURES)
    whole = path.read_bytes()
    damaged = [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in range(len(whole))]
    damaged += [whole[:place] for place in (0, 1, 31, 32, 33, 100, len(whole) - 1)] + [whole + b"\0"]
    for contents in damaged:
        said.clear()
        path.write_bytes(contents)
        np.testing.assert_array_equal(cache.features(KEY, lambda: FEATURES), FEATURES)
        assert len(said) == 1 and "damaged" in said[0] and str(path) in said[0] and "computed again" in said[0]
        assert path.read_bytes() == whole


def test_the_file_of_another_key_is_not_taken(tmp_path):
    said, other = [], features_key("another encoder", "images", part="test", image_size=64)
    cache = FeatureCache(tmp_path, say=said.append)
    cache.features(KEY, lambda: FEATURES)
    (tmp_path / f"{KEY}.features").rename(tmp_path / f"{other}.features")
    np.testing.assert_array_equal(cache.features(other, lambda: FEATURES + 1), FEATURES + 1)
    assert "damaged" in said[0]


def test_a_full_disk_is_told_and_costs_no_features(tmp_path, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    said = []
    monkeypatch.setattr(feature_cache, "written_atomically", full)
    found = FeatureCache(tmp_path, say=said.append).features(KEY, lambda: FEATURES)
    np.testing.assert_array_equal(found, FEATURES)
    assert len(said) == 1 and "No space left on device" in said[0] and "the scores are the same" in said[0]


def test_a_folder_that_is_a_file_is_told_and_costs_no_features(tmp_path):
    said = []
    (tmp_path / "features").write_text("mine")
    cache = FeatureCache(tmp_path / "features", say=said.append)
    np.testing.assert_array_equal(cache.features(KEY, lambda: FEATURES), FEATURES)
    assert said and (tmp_path / "features").read_text() == "mine"


def test_a_key_changes_with_everything_that_features_depend_on(monkeypatch):
    keys = [
        KEY,
        features_key("other", "images", part="test", image_size=64),
        features_key("encoder", "other", part="test", image_size=64),
        features_key("encoder", "images", part="probe_val", image_size=64),
        features_key("encoder", "images", part="test", image_size=65),
    ]
    monkeypatch.setattr(feature_cache, "PIXELS_VERSION", feature_cache.PIXELS_VERSION + 1)
    keys.append(features_key("encoder", "images", part="test", image_size=64))
    monkeypatch.undo()
    monkeypatch.setattr(tf, "__version__", "2.99")
    keys.append(features_key("encoder", "images", part="test", image_size=64))
    monkeypatch.undo()
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(not before)
    keys.append(features_key("encoder", "images", part="test", image_size=64))
    tf.config.experimental.enable_tensor_float_32_execution(before)
    assert len(set(keys)) == 8
    assert features_key("encoder", "images", part="test", image_size=64) == KEY


def test_the_images_are_known_by_ids_bytes_and_order():
    source = source_of(5)
    digest, chosen = images_digest(source, np.arange(3)), source.encoded.copy()
    chosen[1] = chosen[4]
    others = [
        images_digest(source, np.array([0, 1])),
        images_digest(source, np.array([0, 2, 1])),
        images_digest(source, np.array([0, 1, 3])),
        images_digest(dataclasses.replace(source, encoded=chosen), np.arange(3)),
        images_digest(dataclasses.replace(source, image_ids=np.array(list("abcde"))), np.arange(3)),
    ]
    assert len({digest, *others}) == 6
    # Wherever the same images stand in a source, as another reading of the folder may have them.
    assert images_digest(source.take([4, 0, 1, 2]), np.arange(1, 4)) == digest


def test_the_encoder_is_known_by_graph_weights_statistics_and_precision(tmp_path):
    encoder = encoder_of()
    digest = encoder_digest(encoder)
    encoder.save(tmp_path / "encoder.keras")
    assert encoder_digest(tf.keras.models.load_model(tmp_path / "encoder.keras")) == digest
    assert encoder_digest(encoder_of()) == digest
    others = [encoder_digest(encoder_of(seed=1)), encoder_digest(encoder_of(activation="gelu"))]
    with precision_policy("mixed_bfloat16"):
        others.append(encoder_digest(encoder_of()))
    for variable in encoder.variables:
        variable.assign_add(tf.fill(variable.shape, 1e-6))
        others.append(encoder_digest(encoder))
    assert len({digest, *others}) == 4 + len(encoder.variables)


@pytest.mark.parametrize("index", range(6))
def test_an_encoder_that_moves_is_refused_whichever_variable_it_is(index):
    encoder = encoder_of()
    assert len(encoder.variables) == 6
    with frozen(encoder) as digest:
        encoder(tf.ones([2, 8, 8, 3]), training=False)
    assert digest == encoder_digest(encoder)
    with pytest.raises(RuntimeError, match="encoder moved"), frozen(encoder):
        encoder.variables[index].assign_add(tf.fill(encoder.variables[index].shape, 1e-6))
    with pytest.raises(RuntimeError, match="encoder moved"), frozen(encoder):
        encoder(tf.random.uniform([2, 8, 8, 3]), training=True)
