"""Sources of a few small images, and the records of a shard read by TensorFlow's own reader."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from bitkeras.archives.shards import Place, Shard, shard_table
from bitkeras.archives.stage import Stage

CLASSES = ("mel", "nv")


def pixels(seed: int, height: int = 20, width: int = 24) -> np.ndarray:
    """A picture of coarse blocks, which JPEG keeps well."""
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    return blocks.repeat(4, 0).repeat(4, 1)


def jpeg(seed: int, **size) -> bytes:
    return tf.io.encode_jpeg(pixels(seed, **size), quality=95).numpy()


def png(seed: int, **size) -> bytes:
    return tf.io.encode_png(pixels(seed, **size)).numpy()


def damaged(encoded: bytes) -> bytes:
    """A PNG that looks whole at both ends."""
    middle = len(encoded) // 2
    return encoded[:middle] + bytes(byte ^ 0xFF for byte in encoded[middle : middle + 8]) + encoded[middle + 8 :]


def write_images(folder, number: int, *, of_class=lambda n: CLASSES[n % 2]):
    """Class folders with `number` images: JPEG, and every third one PNG. Ids are CLASS/00000.jpg and so on."""
    for n in range(number):
        encode, ending = (png, "png") if n % 3 == 2 else (jpeg, "jpg")
        path = folder / of_class(n) / f"{n:05d}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(n))
    return folder


def shard_of(place: Place, output, *, name="Split-train/data_tfrecord-00000-of-00001.gz", parts=None) -> Stage:
    """A stage with the table of one shard, which is to hold all images."""
    stage, source = Stage(str(output), "ingest.json"), place.read()
    shard = Shard(name, np.arange(len(source)))
    stage.write_table(name, shard_table(source, shard.indices, parts))
    return stage


def read_records(path) -> list[dict]:
    """{feature: value} of each record."""
    found = []
    for record in tf.data.TFRecordDataset(str(path), compression_type="GZIP"):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        values = {name: getattr(one, one.WhichOneof("kind")).value for name, one in features.items()}
        assert all(len(value) == 1 for value in values.values())
        found.append({name: value[0] for name, value in values.items()})
    return found
