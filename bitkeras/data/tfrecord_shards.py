"""Shards of TFRecords, read through once to know where each image lies.

Reading checks every record's checksum. The images are not kept in memory: they are read again where they lie, in the
shard itself, or for shards compressed with gzip, in which nothing can be sought, in an unpacked copy that has no name
and is gone with the process. Images are hardly smaller in gzip, so the copy takes about what the shards do.
"""

from __future__ import annotations

import collections
import dataclasses
import gzip
import re
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.data.byte_ranges import ByteRanges, nameless_file
from bitkeras.data.source import find_files, require_folder
from bitkeras.errors import UserError

# Features of this name say something about their image.
FACT = "image/fact/"

# A record is its length (8 bytes), the length's checksum (4), the data, and their checksum (4).
_BEFORE, _AFTER = 12, 4


@dataclasses.dataclass(frozen=True)
class Record:
    """What a record says of its image.

    Attributes:
      where: its shard and number, for people.
      shard: the number of its shard.
      features: name -> first value (bytes, int or float).
    """

    where: str
    shard: int
    features: dict[str, bytes | int | float]


def find_shards(place: Path) -> list[Path]:
    """The files with "tfrecord" in their names in the folders `Split-*` of a folder, or anywhere below it without such.

    Raises:
      UserError: there are none, or one of those that "-of-00012" in the names promises is missing.
    """
    if place.is_file():
        return [place]
    splits = sorted(path for path in require_folder(place).iterdir() if path.name.startswith("Split-"))
    files = [file for folder in splits or [place] for file in find_files(folder) if is_shard(file)]
    if not files:
        where = " and ".join(path.name for path in splits)
        raise UserError(
            f"There are no records in {place}{f' ({where})' if splits else ''}; their files have the word tfrecord in "
            "their names, as in Split-train/data_tfrecord-00000-of-00001.gz."
        )
    _require_all_shards(files)
    return files


def is_shard(path: Path) -> bool:
    """Whether a file is one, by its name."""
    return "tfrecord" in path.name.lower()


def _require_all_shards(files: list[Path]) -> None:
    """UserError naming a shard that the names of the others promise."""
    found = collections.defaultdict(set)
    for file in files:
        if match := re.match(r"(.*)-(\d{5})-of-(\d{5})(.*)$", file.name):
            before, number, total, after = match.groups()
            found[file.parent, before, int(total), after].add(int(number))
    for (folder, before, total, after), numbers in found.items():
        if missing := set(range(total)) - numbers:
            name = f"{before}-{min(missing):05d}-of-{total:05d}{after}"
            raise UserError(f"The shard {folder / name} is missing beside the others; copy all {total} of them.")


def index_shards(shards: list[Path], place: Path, image: str, kept: set[str]) -> tuple[list[Record], ByteRanges]:
    """All records in their order, and their encoded images.

    Args:
      shards: as `find_shards` gives them.
      place: the folder, for the names of records.
      image: the feature of the encoded image.
      kept: other features to keep, besides `image/fact/*`.

    Raises:
      UserError: a shard is damaged, holds something else or no image, or there is no room to unpack.
    """
    records, which, offsets, lengths = [], [], [], []
    packed = {number for number, shard in enumerate(shards) if _is_gzip(shard)}
    # What gzip takes off an image is a few hundredths.
    room = int(1.1 * sum(shards[number].stat().st_size for number in packed))
    unpacked = nameless_file(room, f"the shards in {place}") if packed else None
    for number, shard in enumerate(shards):
        name = shard.relative_to(place).as_posix() if shard != place else shard.name
        for record, (features, start, encoded) in enumerate(_read_shard(shard, image, kept)):
            records.append(Record(f"{name}#{record}", number, features))
            lengths.append(len(encoded))
            which.append(len(shards) if number in packed else number)
            offsets.append(unpacked.tell() if number in packed else start)
            if number in packed:
                unpacked.write(encoded)
    if not records:
        raise UserError(f"The shards in {place} hold no records; write them again.")
    if unpacked:
        unpacked.flush()
    files = (*shards, unpacked) if unpacked else tuple(shards)
    return records, ByteRanges(files, np.array(which), np.array(offsets), np.array(lengths))


def _is_gzip(shard: Path) -> bool:
    with open(shard, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _read_shard(shard: Path, image: str, kept: set[str]) -> Iterable[tuple[dict, int, bytes]]:
    """(features, place of the encoded image in the unpacked shard, encoded image) of each record."""
    is_gzip, offset = _is_gzip(shard), 0
    records = tf.data.TFRecordDataset(str(shard), compression_type="GZIP" if is_gzip else "")
    try:
        for number, record in enumerate(records.as_numpy_iterator()):
            features = _features(record, f"record {number} of {shard}")
            encoded = features.get(image)
            if not encoded or not isinstance(encoded, bytes):
                raise UserError(
                    f"There is no image in the feature {image} of record {number} of {shard}, which has "
                    f"{', '.join(sorted(features)) or 'no features'}; name the one with the encoded image with "
                    "--image_column."
                )
            known = {name: value for name, value in features.items() if name in kept or name.startswith(FACT)}
            # Wherever in the record these bytes first stand, they are the image.
            yield known, offset + _BEFORE + record.find(encoded), encoded
            offset += _BEFORE + len(record) + _AFTER
    except tf.errors.OpError as error:
        raise _damaged(shard, error.message.splitlines()[0]) from None
    length = _unpacked_length(shard, offset) if is_gzip else shard.stat().st_size
    if length != offset:
        # Half of a record's head, or gzip data that break off, are the end for TensorFlow's reader.
        raise _damaged(shard, f"{offset:,} of its {length:,} bytes are whole records")


def _features(record: bytes, where: str) -> dict:
    """Name -> first value (bytes, int or float) of each feature that has one."""
    try:
        features = tf.train.Example.FromString(record).features.feature
    except Exception as error:  # The class that protobuf raises is another one in each of its implementations.
        raise UserError(f"What stands in {where} is no tf.Example ({error}); pass records of images.") from None
    values = {
        name: getattr(feature, feature.WhichOneof("kind") or "bytes_list").value for name, feature in features.items()
    }
    return {name: value[0] for name, value in values.items() if value}


def _unpacked_length(shard: Path, expected: int) -> int:
    """Of gzip data, told by their last four bytes where these agree with what is expected, else by unpacking."""
    if shard.stat().st_size < 4:
        raise _damaged(shard, "it is cut short in its header")
    with open(shard, "rb") as file:
        file.seek(-4, 2)
        if int.from_bytes(file.read(), "little") == expected % 2**32:
            return expected
    # Files that were put together end with the length of the last.
    try:
        with gzip.open(shard) as file:
            return sum(map(len, iter(lambda: file.read(2**20), b"")))
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(shard, str(error)) from None


def _damaged(shard: Path, reason: str) -> UserError:
    return UserError(f"The shard {shard} is damaged, cut short or no TFRecord file ({reason}); copy or write it again.")
