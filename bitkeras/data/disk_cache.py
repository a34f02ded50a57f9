"""Decoded images in a folder, a BMP each, from which views are made without decoding anything twice."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.data.pictures import DecodedPictures
from bitkeras.errors import UserError

BMP_HEADER = 54


@dataclasses.dataclass(frozen=True)
class DiskCache:
    """A folder of decoded images, 0.bmp, 1.bmp, ..., and their sizes; it appears when all of them are in it.

    Attributes:
      path: the folder.
    """

    path: Path

    @property
    def is_complete(self) -> bool:
        """True where every image is there and has its length."""
        if not (self.path / "index.json").is_file():
            return False
        num_bytes = json.loads((self.path / "index.json").read_text())["num_bytes"]
        return num_bytes == sum(file.stat().st_size for file in os.scandir(self.path) if file.name.endswith(".bmp"))

    def fill(self, images: Iterable[tuple[np.ndarray, np.ndarray, int]]) -> None:
        """Writes (uint8 [h, w, 3], size before, ratio) of each image, all or nothing."""
        beside = self.path.with_name(f".{self.path.name}-{os.getpid()}")
        try:
            beside.mkdir(parents=True)
            sizes, ratios, num_bytes = [], [], 0
            for number, (image, size, ratio) in enumerate(images):
                num_bytes += (beside / f"{number}.bmp").write_bytes(bmp(image))
                sizes.append(np.asarray(size).tolist())
                ratios.append(int(ratio))
            index = {"num_bytes": num_bytes, "sizes": sizes, "ratios": ratios}
            (beside / "index.json").write_text(json.dumps(index))
            # The pixels before the name, also if the power fails.
            os.sync()
            # Another process may have been faster with the same, and read from it already.
            if not self.is_complete:
                shutil.rmtree(self.path, ignore_errors=True)
                beside.rename(self.path)
        except OSError as error:
            raise UserError(
                f"The cache {self.path} cannot be written ({error.strerror or error}); pass another --cache_dir, or "
                "--cache=none."
            ) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def reader(self, indices: np.ndarray) -> Callable[[tf.Tensor], DecodedPictures]:
        """Gives the images, whose numbers are the places in `indices`."""
        index = json.loads((self.path / "index.json").read_text())
        sizes, ratios = (tf.constant(index[key], tf.int32) for key in ("sizes", "ratios"))
        places, folder = places_of(indices), f"{self.path.absolute()}/"

        def decode(place):
            return tf.io.decode_bmp(tf.io.read_file(folder + tf.strings.as_string(place) + ".bmp"), channels=3)

        def read(chosen):
            found = tf.gather(places, chosen)
            images = [tf.ensure_shape(decode(place), [None, None, 3]) for place in tf.unstack(found)]
            return DecodedPictures(images, tf.gather(sizes, found), tf.gather(ratios, found))

        return read


def other_caches(folder: Path, *, besides: Path) -> list[tuple[Path, int]]:
    """(folder, bytes) of the caches in `folder`, finished or left behind by a killed process, but for one."""
    found = [path for path in sorted(folder.glob("*decoded-*")) if path.is_dir() and path != besides]
    return [(path, sum(file.stat().st_size for file in path.iterdir())) for path in found]


def bmp(image: np.ndarray) -> bytes:
    """uint8 [H, W, 3] -> an uncompressed BMP of 24 bits, from the bottom up."""
    height, width, _ = image.shape
    padding = -3 * width % 4
    rows = np.pad(image[::-1, :, ::-1].reshape(height, 3 * width), [(0, 0), (0, padding)])
    header = struct.pack("<2sIHHI", b"BM", BMP_HEADER + rows.size, 0, 0, BMP_HEADER)
    header += struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, rows.size, 0, 0, 0, 0)
    return header + rows.tobytes()


def places_of(indices: np.ndarray) -> tf.Tensor:
    """int64 [largest index + 1]: the place of each index in `indices`."""
    places = np.zeros(int(np.max(indices)) + 1, np.int64)
    places[indices] = np.arange(len(indices))
    return tf.constant(places)
