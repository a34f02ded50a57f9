"""The shared definition of pixels against plain NumPy."""

import base64
import hashlib

import numpy as np
import pytest
import tensorflow as tf
from image_files import picture, saved

from bitkeras.data.preprocess import PIXELS_VERSION, preprocess, resize, to_model_range

# saved(picture(16, 12), "JPEG", quality=40, optimize=True, exif=oriented(6)): another encoder would write another file.
TURNED_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/4QA0RXhpZgAASUkqAAgAAAACAA8BAgAGAAAAJgAAABIBAwABAAAABgAAAAAAAABtYWtlcgD/2wBDABQO"
    "DxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhlbXd7gYKBTmCNl4x9lnN+gXz/2wBDARUXFx4aHjshITt8U0ZT"
    "fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHz/wAARCAAMABADASIAAhEBAxEB/8QAFgABAQEAAAAA"
    "AAAAAAAAAAAAAwIE/8QAHhAAAgICAgMAAAAAAAAAAAAAAQIDEQASBCExQVH/xAAVAQEBAAAAAAAAAAAAAAAAAAACBP/EABkRAAIDAQAAAAAA"
    "AAAAAAAAAAIRAAEDIf/aAAwDAQACEQMRAD8Al5Y45NGu/fXjNCxggEdg4j8WGVtnSz9sjHVFAAAoDEZl1ysdKVKf/9k="
)
# PIXELS_VERSION -> digest of the pixels of that version.
GOLDEN = {1: "abd07d61cdd93ca9"}


def random_image(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def triangle_resize(image, size):
    """Antialiased linear resizing, stated per output pixel: a triangle as wide as the downscaling, normalised."""

    def along_first_axis(values):
        scale = max(1.0, len(values) / size)
        rows = []
        for out in range(size):
            centre = (out + 0.5) * len(values) / size
            distances = np.abs(np.arange(len(values)) + 0.5 - centre) / scale
            weights = np.maximum(0, 1 - distances)
            rows.append(np.tensordot(weights / weights.sum(), values, axes=1))
        return np.stack(rows)

    halfway = along_first_axis(image.astype(np.float64))
    return along_first_axis(halfway.swapaxes(0, 1)).swapaxes(0, 1)


def test_halving_by_hand():
    # Weights 1/8 3/8 3/8 1/8 for a pixel away from the border, its neighbours being 0.5 and 1.5 away of 2.
    row = np.array([0, 80, 160, 0, 0, 0, 240, 0], dtype=np.float32)
    image = np.tile(row[None, :, None], (8, 1, 3))
    result = resize(image, 4).numpy()
    inner = [(1 * 80 + 3 * 160) / 8, (3 * 0 + 1 * 240) / 8]
    border = [(3 * 0 + 3 * 80 + 1 * 160) / 7, (1 * 0 + 3 * 240 + 3 * 0) / 7]
    np.testing.assert_allclose(result[2, :, 1], [border[0], *inner, border[1]], rtol=1e-5)


@pytest.mark.parametrize("shape, size", [((8, 8), 4), ((45, 60), 16), ((10, 33), 7), ((5, 5), 12)])
def test_resize_agrees_with_the_slow_statement(shape, size):
    image = random_image(*shape)
    np.testing.assert_allclose(resize(image, size), triangle_resize(image, size), atol=1e-3)


def test_resize_keeps_a_constant_image():
    np.testing.assert_allclose(resize(np.full([45, 60, 3], 137, np.uint8), 64), 137, rtol=1e-5)


def test_resize_gives_float32_where_the_size_already_fits():
    image = random_image(16, 16)
    result = resize(tf.constant(image), 16)
    assert result.dtype == tf.float32
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize(("shape", "size"), [((450, 600), 224), ((45, 60), 64), ((33, 21), 7)])
def test_resize_gives_what_tf_image_gives(shape, size):
    image = random_image(*shape)
    expected = tf.image.resize(tf.cast(image, tf.float32), [size, size], antialias=True)
    np.testing.assert_array_equal(resize(image, size), expected)


def test_model_range():
    result = to_model_range(np.array([0, 51, 127.5, 255], np.float32))
    np.testing.assert_allclose(result, [-1, -0.6, 0, 1], atol=1e-6)
    assert to_model_range(np.array([255], np.uint8)).dtype == tf.float32


def test_eager_agrees_with_tf_data():
    encoded = [tf.io.encode_jpeg(random_image(45 + i, 60, seed=i)).numpy() for i in range(4)]
    eager = [preprocess(tf.constant(e), 32) for e in encoded]
    dataset = tf.data.Dataset.from_tensor_slices(encoded).map(lambda e: preprocess(e, 32))
    assert dataset.element_spec == tf.TensorSpec([32, 32, 3], tf.float32)
    for a, b in zip(eager, dataset):
        np.testing.assert_array_equal(a, b)
    assert np.min(eager) >= -1 and np.max(eager) <= 1


def test_who_changes_pixels_changes_their_version():
    """If this fails, raise PIXELS_VERSION and add a digest: features that users keep on disk are of the old pixels."""
    image = picture(21, 33).convert("RGBA")
    image.putalpha(128)
    files = [TURNED_JPEG, saved(image, "PNG"), saved(image.convert("L"), "PNG")]
    grey_levels = np.stack([preprocess(tf.constant(file), 8) for file in files]) * 127.5 + 127.5
    # To a tenth of a grey level: far above what rounding on another processor changes, far below what resizing does.
    # Moved by what leaves no value so near to the middle between two steps that rounding decides.
    steps = grey_levels.astype(np.float64) * 10 + 0.735
    assert np.abs(steps - np.floor(steps) - 0.5).min() > 1e-3
    assert hashlib.sha256(np.round(steps).astype("<i4").tobytes()).hexdigest()[:16] == GOLDEN[PIXELS_VERSION]
    assert np.unique(np.round(steps)).size > 50
