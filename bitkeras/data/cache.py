"""Images kept where they are read faster, for the views of every epoch: the same bytes or the same pixels.

- In memory: the files as they are, in one tensor. For images that lie on a slow disk, or that Python converts.
- On disk: the pixels as they are before windows are cut out of them, a BMP for each image, so that nothing is decoded
  twice. It takes 10 to 20 times the room of photographs as JPEG.

What a cache takes is counted first, and nothing is taken that is not there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.data.batches import Read
from bitkeras.data.disk_cache import BMP_HEADER, DiskCache, other_caches, places_of
from bitkeras.data.image_bytes import HEAD_BYTES, plain_jpeg_sizes
from bitkeras.data.pictures import EncodedPictures, Shrinking
from bitkeras.data.reading import file_reader
from bitkeras.data.source import ImageSource
from bitkeras.errors import UserError

CACHES = ("none", "memory", "disk")

# A string tensor holds so much beside each string.
_PER_STRING = 40
# Of what is free: the rest is for training, its checkpoints, and others.
_SHARE_OF_MEMORY, _SHARE_OF_DISK = 0.7, 0.9
_MB = 10**6


def read_from_memory(source: ImageSource, indices: np.ndarray, *, say: Callable[[str], None]) -> Read:
    """Reads the files of `indices` into memory and gives them from there.

    Raises:
      UserError: there is not the memory for them.
    """
    if source.encoded is not None:
        raise UserError(f"The images of {source.name} are in memory as they are; leave --cache=memory out.")
    needed = _PER_STRING * len(indices) + sum(_file_bytes(source, indices))
    available = available_memory()
    _say_what_it_takes(needed, available, f"--cache=memory: {len(indices)} files", "memory", say)
    if available is not None and needed > _SHARE_OF_MEMORY * available:
        raise UserError(
            f"--cache=memory would take {_mb(needed)} and {_mb(available)} of memory are available, of which training "
            "needs a part; pass --cache=disk or --cache=none."
        )
    read = file_reader(source)
    files = tf.data.Dataset.from_tensor_slices(tf.constant(indices, tf.int64))
    files = files.map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(len(indices)).get_single_element()
    places = places_of(indices)
    return lambda chosen: EncodedPictures(tf.unstack(tf.gather(files, tf.gather(places, chosen))))


def read_from_disk(
    source: ImageSource, indices: np.ndarray, folder: Path, *, shrinking: Shrinking, say: Callable[[str], None]
) -> Read:
    """Decodes `indices` into a new folder below `folder`, if that is not there from before, and gives them from there.

    Raises:
      UserError: there is not the room for them, or `folder` cannot be written to.
    """
    place = DiskCache(folder / f"decoded-{_fingerprint(source, indices, shrinking)}")
    for path, num_bytes in other_caches(folder, besides=place.path):
        say(f"--cache=disk: {path} holds {_mb(num_bytes)} for other runs, or is left from one; delete it if not needed")
    if place.is_complete:
        say(f"--cache=disk: {len(indices)} decoded images are in {place.path} from before")
    else:
        needed = int(_decoded_bytes(source, indices, shrinking).sum())
        free = shutil.disk_usage(_nearest(folder)).free
        _say_what_it_takes(needed, free, f"--cache=disk: {len(indices)} decoded images in {folder}", "disk", say)
        if needed > _SHARE_OF_DISK * free:
            raise UserError(
                f"--cache=disk would take {_mb(needed)} in {folder} and {_mb(free)} are free there, of which a tenth "
                "stays; pass another --cache_dir, or --cache=memory or --cache=none."
            )
        place.fill(_decoded(source, indices, shrinking))
    return place.reader(indices)


def available_memory() -> int | None:
    """Bytes that this process may still take, by the kernel and by its group's limit; None where nobody says."""
    limits = []
    info = Path("/proc/meminfo")
    if info.exists():
        line = next((line for line in info.read_text().splitlines() if line.startswith("MemAvailable")), None)
        limits += [int(line.split()[1]) * 1024] if line else []
    group = Path("/sys/fs/cgroup")
    with_limit = (group / "memory.max", group / "memory.current")
    if all(path.exists() for path in with_limit) and with_limit[0].read_text().strip() != "max":
        limits.append(int(with_limit[0].read_text()) - int(with_limit[1].read_text()))
    return min(limits, default=None)


def _decoded(source: ImageSource, indices: np.ndarray, shrinking: Shrinking) -> Iterator[tuple]:
    read = file_reader(source)

    def decode(index):
        decoded = EncodedPictures([read(index)]).decoded(shrinking)
        return decoded.images[0], decoded.sizes[0], decoded.ratios[0]

    images = tf.data.Dataset.from_tensor_slices(tf.constant(indices, tf.int64))
    return images.map(decode, num_parallel_calls=tf.data.AUTOTUNE).prefetch(8).as_numpy_iterator()


def _decoded_bytes(source: ImageSource, indices: np.ndarray, shrinking: Shrinking) -> np.ndarray:
    """Length of the BMP of each image; for all but JPEG as libjpeg writes it, this takes decoding it once."""
    heads = np.stack([np.frombuffer(_head(source, index).ljust(HEAD_BYTES, b"\0"), np.uint8) for index in indices])
    is_plain, sizes = (values.numpy() for values in plain_jpeg_sizes(tf.constant(heads)))
    others = _decoded(source, indices[~is_plain], Shrinking())
    sizes[~is_plain] = np.reshape([size for _, size, _ in others], [-1, 2])
    ratios = np.where(is_plain, shrinking.ratios(tf.constant(sizes)), 1)
    heights, widths = (-(-sizes // ratios[:, np.newaxis])).astype(np.int64).T
    return BMP_HEADER + heights * (3 * widths + -3 * widths % 4)


def _head(source: ImageSource, index: int) -> bytes:
    if source.converted is None and source.encoded is None:
        with open(source.paths[index], "rb") as file:
            return file.read(HEAD_BYTES)
    return source.read(index)[:HEAD_BYTES]


def _file_bytes(source: ImageSource, indices: np.ndarray) -> Iterator[int]:
    for index in indices:
        is_file = source.converted is None and source.encoded is None
        yield os.path.getsize(source.paths[index]) if is_file else len(source.read(index))


def _fingerprint(source: ImageSource, indices: np.ndarray, shrinking: Shrinking) -> str:
    """Changes with the images, whether they lie in files or not, and with how they are decoded."""
    digest = hashlib.sha256(repr((shrinking, source.conversion, len(indices))).encode())
    for index in indices:
        location = source.location(index)
        if os.path.isfile(location):
            stat = os.stat(location)
            content = (os.path.abspath(location), stat.st_size, stat.st_mtime_ns)
        else:
            content = zlib.crc32(source.read(index))
        digest.update(repr((str(source.image_ids[index]), content)).encode())
    return digest.hexdigest()[:16]


def _nearest(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def _say_what_it_takes(needed: int, free: int | None, what: str, of_what: str, say: Callable[[str], None]) -> None:
    known = "" if free is None else f" of the {_mb(free)} available"
    say(f"{what} take {_mb(needed)} of {of_what}{known}")


def _mb(num_bytes: int) -> str:
    return f"{max(1, round(num_bytes / _MB)):,} MB"
