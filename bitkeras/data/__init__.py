"""Sources of images: a table of readers, each `read(data_dir) -> ImageSource`.

A reader says what it found with `ImageSource.summary()`, orders images the same way on every machine, and raises
`UserError` for anything missing, doubled or unknown. It opens no image: which of them cannot be used is found by
`bad_images.find_bad_images`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bitkeras.data.cifar10 import read_cifar10
from bitkeras.data.folders import read_image_folder, read_unlabelled_folder
from bitkeras.data.ham10000 import read_ham10000
from bitkeras.data.source import ImageSource
from bitkeras.errors import UserError


def read_phantom(data_dir: str | Path) -> ImageSource:
    """The project's own phantoms, written to `data_dir` first if it is missing or empty; HAM10000's layout."""
    folder = Path(data_dir)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        from bitkeras.data.phantom import write_phantoms

        write_phantoms(folder)
    return dataclasses.replace(read_ham10000(folder), name="phantom")


DATASETS = {
    "ham10000": read_ham10000,
    "cifar10": read_cifar10,
    "image_folder": read_image_folder,
    "unlabelled_folder": read_unlabelled_folder,
    "phantom": read_phantom,
}


def read_source(name: str, data_dir: str | Path) -> ImageSource:
    """The images of `DATASETS[name]` in `data_dir`; a UserError lists the known names if `name` is none of them."""
    if name not in DATASETS:
        raise UserError(f"The data set {name!r} is unknown; known are {', '.join(DATASETS)}.")
    return DATASETS[name](data_dir)
