"""What C libraries write about images, kept off the screen."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

_lock = threading.Lock()
# How many are inside, and while there are some, where the standard error of the process leads otherwise, and Python's.
_num_inside = 0
_kept: int | None = None
_pythons: TextIO | None = None


@contextlib.contextmanager
def decoders_silenced() -> Iterator[TextIO]:
    """Throws away what C libraries write to the process's standard error; yields what still writes to the terminal.

    `sys.stderr` writes there too, since the last word of a process that is stopped inside must be read. Several threads
    may be inside; it is thrown away until the last has left.
    """
    # libjpeg and libtiff write there, also about the zeros that a thorough look puts in.
    terminal = os.fdopen(_enter(), "w")
    try:
        yield terminal
    finally:
        terminal.close()
        _leave()


def _enter() -> int:
    """A file descriptor of the terminal."""
    global _num_inside, _kept, _pythons
    with _lock:
        if not _num_inside:
            _kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 2)
            os.close(nowhere)
            _pythons, sys.stderr = sys.stderr, os.fdopen(os.dup(_kept), "w", buffering=1)
        _num_inside += 1
        return os.dup(_kept)


def _leave() -> None:
    global _num_inside, _kept, _pythons
    with _lock:
        _num_inside -= 1
        if not _num_inside:
            sys.stderr.close()
            sys.stderr, _pythons = _pythons, None
            os.dup2(_kept, 2)
            os.close(_kept)
            _kept = None
