"""A worker that turns the images of a shard into a compressed file of tf.Examples."""

from __future__ import annotations

import collections
import dataclasses

import tensorflow as tf

from bitkeras.archives.examples import FORMAT, make_example
from bitkeras.archives.pictures import Unusable, read_picture
from bitkeras.archives.shards import Place, read_shard
from bitkeras.archives.stage import Stage
from bitkeras.data import ImageSource
from bitkeras.data.silencing import decoders_silenced
from bitkeras.data.tfrecord import CLASS, ID, IMAGE
from bitkeras.errors import UserError

# Of gzip. Image files are compressed already; higher levels take longer for nothing.
_OPTIONS = tf.io.TFRecordOptions(compression_type="GZIP", compression_level=1)


@dataclasses.dataclass
class RecordWriter:
    """Writes one shard after another; holds one image at a time.

    A shard is written beside, read back, compared with what it is to hold, renamed, and told of in its report: how
    many images of which class there are, the bytes of the encoded ones, and which could not be used.

    Attributes:
      stage: where shards and their tables are.
      place: where the images are.
      image_size: as in `read_picture`.
      keep_incomplete: keep shards that lack an image, which cannot be used.
    """

    stage: Stage
    place: Place
    image_size: int | None = None
    keep_incomplete: bool = False

    def __call__(self, shard: str) -> None:
        """Writes the shard of this name.

        Raises:
          UserError: it could not be written, or does not hold what was written to it.
        """
        with decoders_silenced(), self.stage.written(shard) as path:
            written, bad = self._write(path, *read_shard(self.stage.table_path(shard), self.place))
            found = _read_back(path)
            if found["images"] != written:
                raise UserError(
                    f"{len(written)} images were written to the shard {shard}, and {len(found['images'])} or others "
                    "are in it, so its disk fails; give the same command again, which goes on from there."
                )
        if bad and not self.keep_incomplete:
            self.stage.remove(shard)
        sizes = [size for _, size in found.pop("images")]
        self.stage.write_report(shard, {"num_images": len(sizes), "num_bytes": sizes, "bad": bad, **found})

    def _write(self, path: str, source: ImageSource, parts: list[str] | None) -> tuple[list, list]:
        """([(id, bytes of the encoded image)] of what was written, [[id, file, reason]] of what could not be)."""
        written, bad = [], []
        with tf.io.TFRecordWriter(path, _OPTIONS) as writer:
            for index, image_id in enumerate(source.image_ids.tolist()):
                try:
                    encoded = read_picture(source, index, image_size=self.image_size)
                except Unusable as reason:
                    bad.append([image_id, source.location(index), str(reason)])
                    continue
                part = None if parts is None else parts[index]
                writer.write(make_example(source, index, encoded, part=part))
                written.append((image_id, len(encoded)))
        return written, bad


def _read_back(path: str) -> dict:
    """What a shard holds, found by reading it, which compares its checksums.

    Returns:
      "images", [(id, bytes of the encoded image)], and "classes" and "formats", {name: number of records}.
    """
    found, classes, formats = [], collections.Counter(), collections.Counter()
    try:
        for record in tf.data.TFRecordDataset(path, compression_type="GZIP").as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            found.append((features[ID].bytes_list.value[0].decode(), len(features[IMAGE].bytes_list.value[0])))
            for counts, name in ((classes, CLASS), (formats, FORMAT)):
                counts.update(value.decode() for value in features[name].bytes_list.value)
    except tf.errors.DataLossError as error:
        raise UserError(
            f"The shard {path} was damaged while it was written ({error.message}); write it again."
        ) from error
    return {"images": found, "classes": dict(classes), "formats": dict(formats)}
