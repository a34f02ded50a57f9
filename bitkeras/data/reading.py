"""The bytes of a source's images inside tf.data."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from bitkeras.data.source import ImageSource


def file_reader(source: ImageSource) -> Callable[[tf.Tensor], tf.Tensor]:
    """Index (scalar int64) -> the image as a file (scalar string).

    Where the source converts its images itself, Python is called for each; files and held bytes do without.
    """
    if source.converted is not None:
        return lambda index: _called(source.converted, index)
    if source.encoded is not None:
        encoded = tf.constant(source.encoded)
        return lambda index: encoded[index]
    paths = tf.constant(source.paths)
    return lambda index: tf.io.read_file(paths[index])


def _called(converted: Callable[[int], bytes], index: tf.Tensor) -> tf.Tensor:
    def convert(index):
        try:
            return converted(int(index))
        except Exception as error:  # TensorFlow calls a ValueError an invalid argument, and others an unknown error.
            raise ValueError(str(error)) from error

    # stateful=False: with op determinism, tf.data would otherwise make one image at a time.
    encoded = tf.numpy_function(convert, [index], tf.string, stateful=False)
    encoded.set_shape([])
    return encoded
