"""CIFAR-10 as folders of images or as the released python and binary batches (Krizhevsky, 2009)."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.data.folders import class_images, path_fields
from bitkeras.data.source import ImageSource, require_folder
from bitkeras.errors import UserError

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

_BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
_PIXELS = 3 * 32 * 32


def read_cifar10(data_dir: str | Path) -> ImageSource:
    """CIFAR-10 with its released test part, from `data_dir` or a folder directly below it.

    Known forms: `train/<class>/*` with `test/<class>/*`; `data_batch_1` ... `test_batch` (python); the same with
    `.bin` (binary). Batches are held as PNG, which keeps every pixel, under ids like `data_batch_1/00017`, so both
    kinds of batches have the same ids.

    Raises:
      UserError: no form is found, a part of it is missing, or a file is damaged.
    """
    folder = require_folder(data_dir)
    for place in (folder, *sorted(p for p in folder.iterdir() if p.is_dir())):
        if (place / "train").is_dir() or (place / "test").is_dir():
            return _read_class_folders(place)
        for ending, read in (("", _read_python_batch), (".bin", _read_binary_batch)):
            files = [place / f"{name}{ending}" for name in _BATCHES]
            if any(file.is_file() for file in files):
                return _read_batches(files, read)
    raise UserError(
        f"There is no CIFAR-10 in {folder} or a folder directly below it; known are train/<class>/ with test/<class>/, "
        "the python batches data_batch_1 ... test_batch, and the binary ones data_batch_1.bin ... test_batch.bin."
    )


def _read_class_folders(folder: Path) -> ImageSource:
    paths, labels, tested = [], [], []
    for part in ("train", "test"):
        for name, images in class_images(require_folder(folder / part)).items():
            if name not in CIFAR10_CLASSES:
                raise UserError(
                    f"The class folder {folder / part / name} is not of CIFAR-10; known are "
                    f"{', '.join(CIFAR10_CLASSES)}."
                )
            paths += images
            labels += [CIFAR10_CLASSES.index(name)] * len(images)
            tested += [part == "test"] * len(images)
    return _source(labels, tested, **path_fields(paths, folder))


def _read_batches(files: list[Path], read) -> ImageSource:
    image_ids, encoded, labels, tested = [], [], [], []
    for file in files:
        if not file.is_file():
            raise UserError(f"The batch {file} is missing beside the others; unpack the whole CIFAR-10 archive.")
        pixels, batch_labels = read(file)
        if not len(pixels) or len(batch_labels) != len(pixels) or not set(batch_labels) <= set(range(10)):
            raise _damaged(file, "it holds no images, or labels other than one of 0 to 9 for each")
        image_ids += [f"{file.stem}/{record:05d}" for record in range(len(pixels))]
        encoded.append(_to_png(pixels))
        labels += batch_labels
        tested += [file.stem == "test_batch"] * len(pixels)
    return _source(labels, tested, image_ids=np.array(image_ids), encoded=np.concatenate(encoded))


def _source(labels: list[int], tested: list[bool], **fields) -> ImageSource:
    return ImageSource(
        name="cifar10",
        labels=np.array(labels, dtype=np.int32),
        class_names=CIFAR10_CLASSES,
        official_test=np.array(tested),
        **fields,
    )


def _to_png(pixels: np.ndarray) -> np.ndarray:
    """uint8 [n, 3072], the red plane first, then green and blue -> [n] PNG bytes (object array)."""
    images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return tf.io.encode_png(images, compression=1).numpy()


def _read_binary_batch(file: Path) -> tuple[np.ndarray, list[int]]:
    """Records of 3,073 bytes: the label, then the planes."""
    stored = np.fromfile(file, dtype=np.uint8)
    if len(stored) % (1 + _PIXELS):
        raise _damaged(file, f"its {len(stored)} bytes are no whole number of {1 + _PIXELS}-byte records")
    records = stored.reshape(-1, 1 + _PIXELS)
    return records[:, 1:], records[:, 0].tolist()


def _read_python_batch(file: Path) -> tuple[np.ndarray, list[int]]:
    """A pickled dictionary with `data` uint8 [n, 3072] and `labels`, n integers; the keys are Python 2 strings."""
    try:
        with open(file, "rb") as stream:
            batch = _BatchUnpickler(stream, encoding="bytes").load()
        pixels, labels = batch[b"data"], [int(label) for label in batch[b"labels"]]
    except Exception as error:  # The pickle module promises no list of what damaged data raises.
        raise _damaged(file, f"{type(error).__name__}: {error}") from None
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.shape[1:] != (_PIXELS,):
        raise _damaged(file, f"its data are not {_PIXELS} bytes an image")
    return pixels, labels


class _BatchUnpickler(pickle.Unpickler):
    """Builds NumPy arrays and plain containers only: a downloaded pickle can otherwise run any program."""

    # NumPy 2 writes numpy._core for what the release and NumPy 1 call numpy.core.
    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
        }
    )

    def find_class(self, module: str, name: str):
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 batch needs")
        return super().find_class(module.replace("numpy._core", "numpy.core"), name)


def _damaged(file: Path, reason: str) -> UserError:
    return UserError(f"The CIFAR-10 batch {file} is damaged ({reason}); unpack the archive again.")
