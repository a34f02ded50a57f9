"""An image and what is known of it as a tf.Example, in the features that `bitkeras.data.tfrecord` reads."""

from __future__ import annotations

import tensorflow as tf

from bitkeras.data import ImageSource
from bitkeras.data.tfrecord import CLASS, ID, IMAGE, LABEL, LESION, PART
from bitkeras.data.tfrecord_shards import FACT

FORMAT = "image/format"

# First bytes of a file -> its format.
_FORMATS = {
    b"\xff\xd8\xff": "jpeg",
    b"\x89PNG": "png",
    b"GIF8": "gif",
    b"BM": "bmp",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
}


def format_of(encoded: bytes) -> str:
    """What an image file is, by its first bytes; "" if it is none of those known."""
    return next((name for start, name in _FORMATS.items() if encoded.startswith(start)), "")


def make_example(source: ImageSource, index: int, encoded: bytes, *, part: str | None = None) -> bytes:
    """A serialized tf.Example; what is not known of an image is left out of it.

    Args:
      source, index: the image.
      encoded: its file, or what stands for it.
      part: its part of the split.
    """
    known = {
        IMAGE: encoded,
        FORMAT: format_of(encoded),
        ID: str(source.image_ids[index]),
        PART: part or "",
        LESION: "" if source.groups is None else str(source.groups[index]),
        **{FACT + name: str(values[index]) for name, values in source.facts.items()},
    }
    features = {name: _bytes(value) for name, value in known.items() if value}
    if source.labels is not None:
        label = int(source.labels[index])
        features[LABEL] = tf.train.Feature(int64_list=tf.train.Int64List(value=[label]))
        features[CLASS] = _bytes(source.class_names[label])
    # In the order of their names, so that the same image is the same bytes on every machine.
    example = tf.train.Example(features=tf.train.Features(feature=dict(sorted(features.items()))))
    return example.SerializeToString(deterministic=True)


def _bytes(value: bytes | str) -> tf.train.Feature:
    value = value.encode() if isinstance(value, str) else value
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
