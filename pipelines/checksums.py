"""What files hold, in a few letters."""

from __future__ import annotations

import functools
import hashlib
import os
import zlib
from pathlib import Path

from bitkeras.backbones.shipped import SHIPPED, shipped_card
from bitkeras.data import ImageSource
from bitkeras.data.splits import SPLITS


def sha256_of(path: Path) -> str | None:
    """The sha256 of a file; None where there is none. Read once while size and time of change stay."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return _sha256(str(path), stat.st_size, stat.st_mtime_ns)


@functools.cache
def _sha256(path: str, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def images_fingerprint(source: ImageSource) -> str:
    """Changes with the ids, classes, lesions, facts and file sizes of the images.

    Not with the pixels where a file keeps its size: reading 10,000 sizes takes a fraction of a second, and reading
    the files of HAM10000 most of a minute on a laptop. Images that are held in memory count with their bytes.
    """
    known = [source.name, source.conversion, list(source.class_names), len(source)]
    columns = (
        source.labels,
        source.groups,
        source.official_test,
        *(source.facts[name] for name in sorted(source.facts)),
    )
    digest = hashlib.sha256(repr(known).encode())
    for index, image_id in enumerate(source.image_ids):
        row = [str(image_id), _size(source, index), *(None if one is None else str(one[index]) for one in columns)]
        digest.update(repr(row).encode())
    return digest.hexdigest()


def _size(source: ImageSource, index: int) -> int | None:
    if source.paths is None:
        return None if source.encoded is None else zlib.crc32(source.encoded[index])
    return os.path.getsize(source.paths[index])


def content_of(value: str) -> str:
    """What stands for the value of a flag in a key: a path's content, the checksum of a shipped model, or the value."""
    if value in SHIPPED:
        return shipped_card(value)["sha256"]
    if value in SPLITS or value == "none":
        # Whatever folder of that name there is.
        return value
    path = Path(value)
    if "://" in value or not path.exists():
        return value
    files = [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())
    if (path / "encoder.keras").is_file():
        # Of a run folder this is all that counts, and the rest may still change.
        files = [path / "encoder.keras"]
    listed = [(file.name if file == path else file.relative_to(path).as_posix(), sha256_of(file)) for file in files]
    return hashlib.sha256(repr([sha for _, sha in listed] if path.is_file() else listed).encode()).hexdigest()
