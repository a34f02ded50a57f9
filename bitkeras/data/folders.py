"""Folders of images: one folder a class, or any images without labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bitkeras.data.ham10000 import HAM10000_CLASSES, find_ham10000_tables
from bitkeras.data.source import IMAGE_ENDINGS, ImageSource, find_images, require_folder
from bitkeras.errors import UserError

_PART_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation"}


def read_image_folder(data_dir: str | Path) -> ImageSource:
    """`data_dir/<class>/**/*.jpg`: the sub-folders are the classes, sorted by name; ids are the relative paths."""
    folder = require_folder(data_dir)
    by_class = class_images(folder)
    tables = find_ham10000_tables(sorted(path for path in folder.iterdir() if path.is_file()))
    if tables and not {name.lower() for name in by_class} & set(HAM10000_CLASSES):
        raise UserError(
            f"The sub-folders of {folder} ({', '.join(by_class)}) are no classes: those are in {tables[0].name} beside "
            "them; read both with --dataset=ham10000."
        )
    if all(name.lower() in _PART_NAMES for name in by_class):
        raise UserError(
            f"The sub-folders of {folder} are parts ({', '.join(by_class)}), not classes; pass one of them."
        )
    paths = [path for images in by_class.values() for path in images]
    return ImageSource(
        name="image_folder",
        **path_fields(paths, folder),
        labels=np.repeat(np.arange(len(by_class), dtype=np.int32), [len(images) for images in by_class.values()]),
        class_names=tuple(by_class),
    )


def read_unlabelled_folder(data_dir: str | Path) -> ImageSource:
    """Every image below `data_dir` at any depth, without labels; ids are the relative paths."""
    folder = require_folder(data_dir)
    paths = find_images(folder)
    if not paths:
        raise UserError(f"There is no image below {folder}; images end in {', '.join(IMAGE_ENDINGS)}.")
    return ImageSource(name="unlabelled_folder", **path_fields(paths, folder))


def class_images(folder: Path) -> dict[str, list[Path]]:
    """{class: images below its folder, sorted} in the order of the names.

    Raises:
      UserError: there is no class folder, one without an image, or an image beside the class folders.
    """
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__MACOSX")))
    if not classes:
        raise UserError(
            f"The folder {folder} has no sub-folders, and they are the classes; put the images of each class into a "
            "folder with its name, or read them with --dataset=unlabelled_folder."
        )
    by_class = {name: [] for name in classes}
    for path in find_images(folder):
        name = path.relative_to(folder).parts[0]
        if name not in by_class:
            raise UserError(
                f"The image {path} lies beside the class folders and has no class; move it into one of {folder}'s "
                "sub-folders or away."
            )
        by_class[name].append(path)
    empty = [name for name, images in by_class.items() if not images]
    if empty:
        raise UserError(
            f"The class folder {folder / empty[0]} holds no image ({', '.join(IMAGE_ENDINGS)}); fill or remove it."
        )
    return by_class


def path_fields(paths: list[Path], folder: Path) -> dict[str, np.ndarray]:
    """The fields `image_ids` (paths relative to `folder`) and `paths` of a source."""
    return {
        "image_ids": np.array([path.relative_to(folder).as_posix() for path in paths]),
        "paths": np.array([str(path) for path in paths]),
    }
