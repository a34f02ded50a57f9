"""Sources of images: a table of readers, each `read(data_dir, **options) -> ImageSource`.

A reader says what it found with `ImageSource.summary()`, orders images the same way on every machine, and raises
`UserError` for anything missing, doubled or unknown. It opens no image: which of them cannot be used is found by
`bad_images.find_bad_images`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bitkeras.data.cifar10 import read_cifar10
from bitkeras.data.csv_table import read_csv
from bitkeras.data.dicom import read_dicom
from bitkeras.data.folders import read_image_folder, read_unlabelled_folder
from bitkeras.data.ham10000 import read_ham10000
from bitkeras.data.isic import read_isic2018, read_isic2019
from bitkeras.data.medmnist import read_medmnist
from bitkeras.data.source import ImageSource
from bitkeras.data.tfrecord import read_tfrecord
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
    "isic2018": read_isic2018,
    "isic2019": read_isic2019,
    "cifar10": read_cifar10,
    "medmnist": read_medmnist,
    "image_folder": read_image_folder,
    "unlabelled_folder": read_unlabelled_folder,
    "csv": read_csv,
    "tfrecord": read_tfrecord,
    "dicom": read_dicom,
    "phantom": read_phantom,
}

_COLUMNS = ("image_column", "label_column", "group_column", "id_column", "fact_columns")
# What some readers can be told besides the place: keyword arguments of theirs, and flags of the commands.
OPTIONS = {"csv": (*_COLUMNS, "dicom_window"), "tfrecord": _COLUMNS, "dicom": ("dicom_window",)}


def read_source(name: str, data_dir: str | Path, **options: str | None) -> ImageSource:
    """The images of `DATASETS[name]` in `data_dir`.

    Args:
      name: a key of the table.
      data_dir: the folder, or for a source that is one file, the file.
      options: those of `OPTIONS[name]`; one that is None is as good as not given.

    Raises:
      UserError: the name is unknown, or its reader takes no such option.
    """
    if name not in DATASETS:
        raise UserError(f"The data set {name!r} is unknown; known are {', '.join(DATASETS)}.")
    given = {option: value for option, value in options.items() if value is not None}
    for option, value in given.items():
        if option not in OPTIONS.get(name, ()):
            takers = ", ".join(f"--dataset={taker}" for taker, taken in OPTIONS.items() if option in taken)
            raise UserError(f"--{option}={value} is for {takers}, and this is --dataset={name}; leave it out.")
    return DATASETS[name](data_dir, **given)
