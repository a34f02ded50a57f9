"""Files on a disk or in a bucket: paths may be such as gs://bucket/folder, as TensorFlow's file systems read them."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator

import tensorflow as tf

from bitkeras.errors import UserError, first_line

gfile = tf.io.gfile


def is_remote(path: str) -> bool:
    """True for a path with a scheme."""
    return "://" in path


@contextlib.contextmanager
def written_whole(path: str, *, beside: str) -> Iterator[str]:
    """Yields a new path in the folder `beside` to write to, which is renamed to `path` when the block succeeds.

    Both folders are of one file system. When the block raises, `path` is as it was.

    Raises:
      UserError: there is no room or no access.
    """
    # Random: two machines of a cluster may be given the same task.
    scratch = os.path.join(beside, f"{secrets.token_hex(8)}-{os.path.basename(path)}")
    try:
        gfile.makedirs(beside)
        gfile.makedirs(os.path.dirname(path))
        yield scratch
        if not is_remote(scratch):
            _to_disk(scratch)
        gfile.rename(scratch, path, overwrite=True)
    except (tf.errors.OpError, OSError) as error:
        raise UserError(
            f"{path} could not be written ({first_line(error)}); make room or access and give the same command again, "
            "which goes on from there."
        ) from error
    finally:
        if gfile.exists(scratch):
            gfile.remove(scratch)


def write_text(path: str, text: str | bytes, *, beside: str) -> None:
    """Writes a small file, all of it or nothing."""
    with written_whole(path, beside=beside) as scratch, gfile.GFile(scratch, "wb") as file:
        file.write(text)


def write_json(path: str, value, *, beside: str) -> None:
    """Writes `value` as indented JSON, all of it or nothing."""
    write_text(path, json.dumps(value, indent=2) + "\n", beside=beside)


def read_json(path: str):
    """What a JSON file holds; None where there is none."""
    if not gfile.exists(path):
        return None
    with gfile.GFile(path, "rb") as file:
        return json.loads(file.read())


def read_bytes(path: str) -> bytes:
    """The content of a file.

    Raises:
      OSError: it cannot be read.
    """
    try:
        with gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.OpError as error:
        raise OSError(0, first_line(error), path) from error


def _to_disk(path: str) -> None:
    """Without it a power cut after the rename can leave an empty file under the final name."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
