"""Byte strings that stay in files until they are asked for."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bitkeras.errors import UserError


@dataclasses.dataclass(frozen=True)
class ByteRanges:
    """N byte strings, each a part of a file; may be called from several threads at once.

    Attributes:
      files: paths, or open files where they have no name.
      which: int [N], the file of each.
      offsets, lengths: int64 [N], bytes.
    """

    files: tuple[Path | BinaryIO, ...]
    which: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray

    def __call__(self, index: int) -> bytes:
        """The bytes of one.

        Raises:
          ValueError: the file ends before they do.
        """
        file, offset, length = self.files[self.which[index]], int(self.offsets[index]), int(self.lengths[index])
        if isinstance(file, Path):
            with open(file, "rb", buffering=0) as opened:
                found = os.pread(opened.fileno(), length, offset)
        else:
            found = os.pread(file.fileno(), length, offset)
        if len(found) < length:
            raise ValueError(f"the file {file} became shorter while it was in use")
        return found

    def take(self, indices: np.ndarray) -> ByteRanges:
        """Those at `indices` (int [n]), in that order."""
        return ByteRanges(self.files, self.which[indices], self.offsets[indices], self.lengths[indices])


def nameless_file(num_bytes: int, what: str | Path) -> BinaryIO:
    """A file to unpack `what` into, which is gone with the process, however that ends.

    It has no name from the start, so nobody else sees it and nothing is left behind. What of it is in use stays in
    memory as far as there is room, as with any file.

    Raises:
      UserError: the folder for temporary files has no room for `num_bytes`.
    """
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise UserError(
            f"Unpacking {what} takes about {num_bytes / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB free; set "
            "TMPDIR to a folder with more room."
        )
    return tempfile.TemporaryFile(prefix="bitkeras-")
