from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from small_servable import CLASS_NAMES

from bitkeras.errors import UserError
from export import predict
from export.predict import predict_files


@pytest.mark.parametrize("batch_size", [2, 16])
def test_files_are_answered_in_order(pushed, loaded, images, paths, monkeypatch, batch_size):
    monkeypatch.setattr(predict, "BATCH_SIZE", batch_size)
    answers = json.loads(json.dumps(predict_files(pushed, paths)))
    wanted = loaded.signatures["serving_default"](image_bytes=tf.constant(images))
    assert [answer["path"] for answer in answers] == [str(path) for path in paths]
    assert all(tuple(answer["probabilities"]) == CLASS_NAMES for answer in answers)
    assert [answer["prediction"] for answer in answers] == [name.decode() for name in wanted["prediction"].numpy()]
    probabilities = [list(answer["probabilities"].values()) for answer in answers]
    np.testing.assert_allclose(probabilities, wanted["probabilities"], atol=1e-5)
    np.testing.assert_allclose([answer["embedding"] for answer in answers], wanted["embedding"], atol=1e-5)


def test_an_absent_version_is_told(pushed, paths, tmp_path):
    with pytest.raises(UserError, match="no SavedModel in .*99"):
        predict_files(pushed.parent / "99", paths)
    with pytest.raises(UserError, match=rf"versions \[1\], so pass .*{pushed.name}\.$"):
        predict_files(pushed.parent, paths)


def test_a_missing_file_is_named(pushed, paths, tmp_path):
    with pytest.raises(UserError, match="absent.jpg does not exist"):
        predict_files(pushed, [*paths, tmp_path / "absent.jpg"])


def test_a_broken_file_among_good_ones_is_named(pushed, paths, images, tmp_path):
    broken = tmp_path / "cut short.jpg"
    broken.write_bytes(images[0][:-200])
    with pytest.raises(UserError, match="cut short.jpg is broken or no image"):
        predict_files(pushed, [*paths, broken])


def test_a_foreign_saved_model_is_told(paths, tmp_path):
    module = tf.Module()
    module.double = tf.function(lambda x: 2 * x, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, str(tmp_path), signatures=module.double)
    with pytest.raises(UserError, match="takes no image_bytes"):
        predict_files(tmp_path, paths)


@pytest.mark.real_data
def test_real_photographs_are_answered_as_keras_does(pushed, servable, real_ham10000):
    from export.validation import expected_answer

    paths = sorted(real_ham10000.glob("HAM10000_images_part_1/*.jpg"))[:20]
    answers = predict_files(pushed, paths)
    expected = expected_answer(servable, [path.read_bytes() for path in paths])
    probabilities = [list(answer["probabilities"].values()) for answer in answers]
    np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-5)
