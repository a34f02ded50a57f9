"""The small PNG writer against readers of others."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from bitkeras.data.png import stored_png


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (7, 300), (300, 7, 3), (28, 28, 3), (513, 257), (65, 1)])
def test_others_read_the_same_pixels(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    encoded = stored_png(pixels)
    image = Image.open(io.BytesIO(encoded))
    # verify() compares the checksums of all parts.
    Image.open(io.BytesIO(encoded)).verify()
    assert image.mode == ("L" if len(shape) == 2 else "RGB")
    np.testing.assert_array_equal(np.asarray(image), pixels)
    np.testing.assert_array_equal(tf.io.decode_png(encoded).numpy().reshape(shape), pixels)


def test_pixels_that_do_not_lie_in_order():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)[::2, ::-1].transpose(1, 0, 2)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stored_png(pixels)))), pixels)
