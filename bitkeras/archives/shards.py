"""Which images make which shard, and the table from which a worker knows the images of its own."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import threading
from collections.abc import Sequence

import numpy as np

from bitkeras.archives.storage import read_bytes, read_json
from bitkeras.data import ImageSource, read_source
from bitkeras.data.conversion import decodable

# The last place that was read and what was found there: with the direct runner workers are in the process of the job.
_held: tuple[Place, ImageSource] | None = None
_lock = threading.RLock()


@dataclasses.dataclass(frozen=True)
class Shard:
    """Some images that become one file.

    Attributes:
      name: the file's path in the output folder.
      indices: int64 [n], the images, in the order in which they are written.
    """

    name: str
    indices: np.ndarray

    @property
    def folder(self) -> str:
        """The folder of the file, "" where it lies in none."""
        return os.path.dirname(self.name)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a worker finds the images.

    Attributes:
      dataset, data_dir, options: as `bitkeras.data.read_source` takes them.
      worker_data_dir: the same folder as workers on other machines see it, such as gs://bucket/folder; None: as here.
    """

    dataset: str
    data_dir: str
    options: dict[str, str | None] = dataclasses.field(default_factory=dict)
    worker_data_dir: str | None = None

    def read(self) -> ImageSource:
        """All the images, which this process then holds on to; UserError as its reader raises."""
        global _held
        with _lock:
            # Not both at once in memory.
            _held = None
            source = read_source(self.dataset, self.data_dir, **self.options)
            _held = (self, source)
        return source

    @property
    def source(self) -> ImageSource:
        """All the images, read where this process does not hold them yet."""
        with _lock:
            return _held[1] if _held and _held[0] == self else self.read()

    def path_for_workers(self, path: str) -> str:
        """A file below `data_dir` as workers see it."""
        if self.worker_data_dir is None:
            return path
        return os.path.join(self.worker_data_dir, os.path.relpath(path, self.data_dir))


def cut(indices: np.ndarray, stem: str, ending: str, *, images_per_shard: int) -> list[Shard]:
    """`indices` in shards of nearly equal size, at most `images_per_shard` each: STEM-00000-of-00012ENDING."""
    num_shards = -(-len(indices) // images_per_shard)
    parts = np.array_split(np.asarray(indices, np.int64), num_shards) if num_shards else []
    return [Shard(f"{stem}-{number:05d}-of-{num_shards:05d}{ending}", part) for number, part in enumerate(parts)]


def shard_table(source: ImageSource, indices: np.ndarray, parts: np.ndarray | None = None) -> dict:
    """What is known about the images of a shard but for their pixels, ready for JSON.

    Args:
      source: all images.
      indices: int64 [n], those of the shard.
      parts: str [N], the part of every image of the source in the split.
    """
    taken = dataclasses.replace(source, encoded=None, converted=None).take(indices)
    known = {"image_ids": taken.image_ids, "labels": taken.labels, "groups": taken.groups, "paths": taken.paths}
    return {
        "indices": indices.tolist(),
        "class_names": list(source.class_names),
        "is_converted": source.converted is not None,
        **{name: None if values is None else values.tolist() for name, values in known.items()},
        "parts": None if parts is None else parts[indices].tolist(),
        "facts": {name: values.tolist() for name, values in taken.facts.items()},
    }


def fingerprint(tables: Sequence[dict]) -> str:
    """SHA-256 of all that the tables say but for where the images lie, which may be moved."""
    digest = hashlib.sha256()
    for table in tables:
        digest.update(json.dumps({**table, "paths": None}, sort_keys=True).encode())
    return digest.hexdigest()


def read_shard(path: str, place: Place) -> tuple[ImageSource, list[str] | None]:
    """(the images of the table at `path`, the part of each in the split)."""
    table = read_json(path)
    known = {
        "image_ids": np.array(table["image_ids"]),
        "labels": None if table["labels"] is None else np.array(table["labels"], np.int32),
        "groups": None if table["groups"] is None else np.array(table["groups"]),
        "facts": {name: np.array(values) for name, values in table["facts"].items()},
        "class_names": tuple(table["class_names"]),
    }
    if table["paths"] is None or table["is_converted"]:
        # Of images that are no files; what a reader does to find them, a process does once.
        return dataclasses.replace(place.source.take(table["indices"]), **known), table["parts"]
    paths = [place.path_for_workers(path) for path in table["paths"]]
    files = ImageSource(name=place.dataset, paths=np.array(paths), **known)
    if place.worker_data_dir is not None:
        files = dataclasses.replace(files, converted=lambda index: decodable(read_bytes(paths[index])))
    return files, table["parts"]
