"""Nothing half-done is visible: write beside, then rename."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_atomically(path: str | Path) -> Iterator[Path]:
    """Yields a path beside `path` with the same ending; renames it to `path` when the block succeeds.

    When the block raises, `path` is as it was and the file beside it is gone.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        yield beside
        with open(beside, "rb") as file:
            # Without it a power cut after the rename can leave an empty file under the final name.
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
