"""Images that cannot be used: found by decoding every one once, listed in a table, left out.

The first and last bytes of a file do not tell. A JPEG can be whole at both ends and lack its middle, which libjpeg
paints grey without an error, so all data is looked at.
"""

from __future__ import annotations

import csv
import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np
import tensorflow as tf

from bitkeras.data.conversion import read_pixels
from bitkeras.data.decoding import decode_image
from bitkeras.data.reading import file_reader
from bitkeras.data.silencing import decoders_silenced
from bitkeras.data.source import ImageSource
from bitkeras.errors import UserError
from bitkeras.files import written_atomically

# Of all images. More are no accident: the folder, the disk or the way they were copied is to blame.
MAX_BAD_SHARE = 0.01
_COLUMNS = ("image_id", "file", "reason")


@dataclasses.dataclass(frozen=True)
class BadImage:
    """One image that cannot be used.

    Attributes:
      image_id: its id in the source.
      file: where a person finds it.
      reason: half a sentence: "it is empty (0 bytes)".
    """

    image_id: str
    file: str
    reason: str


def find_bad_images(
    source: ImageSource,
    *,
    at_most: int | None = None,
    progress: Callable[[Iterable, TextIO], Iterable] | None = None,
) -> list[BadImage]:
    """Decodes every image and lists those that cannot be used, in their order.

    On all cores and as training reads them, but each JPEG is decoded twice. The memory is that of a few images.

    Args:
      at_most: stop after so many.
      progress: (what is iterated over, where to write) -> the same, for a bar that moves with it.
    """
    read = file_reader(source)

    def decode(index):
        return tf.size(decode_image(read(index), fallback=read_pixels, thorough=True))

    results = iter(tf.data.Dataset.range(len(source)).map(decode, num_parallel_calls=tf.data.AUTOTUNE))
    bad, indices = [], range(len(source))
    with decoders_silenced() as terminal:
        for index in indices if progress is None else progress(indices, terminal):
            try:
                next(results)
            # One error an image: the next element is the next image.
            except tf.errors.OpError:
                reason = fault_of(source, index)
                if reason:
                    bad.append(BadImage(str(source.image_ids[index]), source.location(index), reason))
            if len(bad) == at_most:
                break
    return bad


def without(source: ImageSource, bad: Sequence[BadImage]) -> ImageSource:
    """`source` without the images listed in `bad`; ids that it does not have are passed over."""
    left_out = tuple(image.image_id for image in bad)
    kept = source.take(np.flatnonzero(~np.isin(source.image_ids, left_out)))
    return dataclasses.replace(kept, left_out=source.left_out + left_out)


def require_none(bad: Sequence[BadImage]) -> None:
    """UserError naming the first of `bad` with its reason."""
    if bad:
        others = f" ({len(bad) - 1} more cannot either)" if len(bad) > 1 else ""
        raise UserError(
            f"The image {bad[0].file} cannot be used because {bad[0].reason}{others}; restore it from where it came "
            "from, or pass --on_bad_image=skip to go without such images."
        )


def require_few(bad: Sequence[BadImage], num_images: int) -> None:
    """UserError where `bad` are more than one in a hundred of `num_images`."""
    if len(bad) > MAX_BAD_SHARE * num_images:
        raise UserError(
            f"{len(bad)} of {num_images} images cannot be used, and --on_bad_image=skip goes without "
            f"{MAX_BAD_SHARE:.0%} at most, since more are no accident; the first is {bad[0].file} because "
            f"{bad[0].reason}. Restore them or take them out of the folder."
        )


def save_bad_images(bad: Sequence[BadImage], path: str | Path) -> None:
    """Writes a CSV with a line an image: image_id, file, reason."""
    with written_atomically(path) as beside, open(beside, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        writer.writerows(dataclasses.astuple(image) for image in bad)


def load_bad_images(path: str | Path) -> list[BadImage]:
    """What `save_bad_images` wrote; UserError where the file is something else."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            columns, rows = tuple(next(reader, ())), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"The list of bad images {path} cannot be read ({error}); restore it.") from None
    if columns != _COLUMNS or any(len(row) != len(_COLUMNS) for row in rows):
        raise UserError(f"The file {path} is no list of bad images: its columns must be {', '.join(_COLUMNS)}.")
    return [BadImage(*row) for row in rows]


def reason_of(error: Exception) -> str:
    """What reading or decoding an image raised, as half a sentence."""
    if isinstance(error, OSError):
        return f"it cannot be read ({error.strerror or error})"
    if isinstance(error, tf.errors.OpError):
        return _of_tensorflow(error.message)
    return str(error) or type(error).__name__


def fault_of(source: ImageSource, index: int) -> str:
    """Why image `index` cannot be used, or "" where it can at a second look."""
    try:
        decode_image(tf.constant(source.read(index)), thorough=True)
    except Exception as error:  # A source that converts its images may raise anything; its text is the reason.
        return reason_of(error)
    return ""


def _of_tensorflow(message: str) -> str:
    """TensorFlow's message, without its graph around it."""
    asserted = re.search(r"assertion failed: \[(.*?)\]", message)
    if asserted:
        return asserted[1]
    # "{{function_node ...}} Invalid PNG data, size 12 [Op:DecodeImage]", or of a traced function the same behind
    # "Graph execution error:" and the places in the code.
    around = r"\s*$|Graph execution error|Detected at node|  File |\s*\[\["
    lines = [line for line in message.splitlines() if not re.match(around, line)]
    kept = re.sub(r"\{\{.*?\}\}|\[Op:.*|\s*\[\[.*", "", lines[0] if lines else "").strip()
    return f"it is damaged or cut short ({kept or 'it does not decode'})"
