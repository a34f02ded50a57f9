"""What is converted answers as the SavedModel does."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from small_servable import IMAGE_SIZE
from test_folding import SIZE, build_bit, build_bit_servable

from bitkeras.errors import UserError
from export import converters
from export.converters import PixelsToNumbers, convert, largest_difference, load_converted, require_formats
from export.engines import ENGINES
from export.signatures import pixels as pixels_signature


def pixels(batch_size: int, side: int) -> np.ndarray:
    return np.random.default_rng(batch_size).uniform(-1, 1, [batch_size, side, side, 3]).astype(np.float32)


@pytest.fixture(scope="module", params=[False, True], ids=["variables", "frozen"])
def saved(request, tmp_path_factory):
    """A small BiT with batch norm."""
    folder = tmp_path_factory.mktemp("saved")
    servable = build_bit_servable(build_bit(norm="batch"), freeze=request.param)
    signatures = {"pixels": pixels_signature(servable).get_concrete_function()}
    tf.saved_model.save(servable, str(folder), signatures=signatures)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", list(converters.CONVERTERS))
def test_a_converted_model_answers_alike_for_any_batch_size(saved, tmp_path, name):
    if converters.missing_modules(name):
        pytest.skip(f"not installed: {', '.join(converters.missing_modules(name))}")
    path = convert(PixelsToNumbers(saved), name, tmp_path)
    engine, reference = load_converted(name, path, num_threads=2), ENGINES["tensorflow"](saved, 0)
    for batch_size in (3, 1):
        images = pixels(batch_size, SIZE)
        assert engine(images)["probabilities"].shape == (batch_size, 2)
        assert engine(images)["embedding"].shape == (batch_size, 512)
        assert 0 <= largest_difference(engine, reference, images) < 1e-5


def test_differences_are_relative_and_nothing_hides_in_them():
    def answering(embedding, **more):
        return lambda images: {"embedding": np.array(embedding), **more}

    reference = answering([[1.0, -50.0]])
    assert largest_difference(answering([[1.5, -50.0]]), reference, None) == pytest.approx(0.01)
    assert largest_difference(answering([[np.nan, -50.0]]), reference, None) == np.inf
    assert largest_difference(answering([[1.0, -50.0]], more=1), reference, None) == np.inf


def test_formats_are_told_apart(monkeypatch):
    require_formats(["tflite"])
    with pytest.raises(UserError, match="no format 'coreml'; pass some of onnx, openvino, tflite"):
        require_formats(["coreml"])
    monkeypatch.setattr(converters, "is_installed", lambda module: module != "tf2onnx")
    with pytest.raises(UserError, match=r"onnx needs tf2onnx; install them: pip install 'bitkeras\[convert\]'"):
        require_formats(["tflite", "onnx"])


def test_the_shared_small_model_is_converted_by_what_tensorflow_brings(pushed, tmp_path):
    path = convert(PixelsToNumbers(pushed), "tflite", tmp_path)
    engine, reference = load_converted("tflite", path, num_threads=2), ENGINES["tensorflow"](pushed, 0)
    assert largest_difference(engine, reference, pixels(2, IMAGE_SIZE)) < 1e-5
