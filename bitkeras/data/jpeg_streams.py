"""JPEG streams inside files of other kinds, which are decoded in Python: their size, and whether they are whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from bitkeras.data.image_bytes import more_before

# SOF0 to SOF15 without the three that mean something else, and that of JPEG-LS.
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_SCAN = 0xDA
# Zeros may be the code of no change at all, in JPEG without losses and where the codes were made for the image. It
# begins with one, since 0xFF stands before it where markers are filled up.
_KINDS, _MORE = more_before(bytes(range(255)) * 2)


def frame_size(stream: bytes) -> tuple[int, int]:
    """(rows, columns) as the frame header of JPEG or JPEG-LS data says; ValueError where there is none."""
    for marker, place in _segments(stream):
        if marker in _FRAME_MARKERS:
            rows, columns = stream[place + 5 : place + 7], stream[place + 7 : place + 9]
            return int.from_bytes(rows, "big"), int.from_bytes(columns, "big")
    raise ValueError("the JPEG data have no frame header")


def decode_whole(stream: bytes, decode: Callable[[bytes], np.ndarray]) -> np.ndarray:
    """What `decode` makes of a JPEG stream.

    Raises:
      ValueError: part of its data is missing, for which libjpeg fills in grey without a word. What is behind complete
        data is passed over, so with more data (`image_bytes.with_more_data`) the pixels are others only then.
    """
    pixels = decode(stream)
    try:
        is_whole = np.array_equal(pixels, decode(_with_more_data(stream)))
    except Exception:  # Decoders promise no list of what they raise.
        is_whole = False
    if not is_whole:
        raise ValueError("it is a JPEG that lacks part of its data")
    return pixels


def _with_more_data(stream: bytes) -> bytes:
    """`image_bytes.with_more_data`, but for what is added."""
    start = next((place for marker, place in _segments(stream) if marker == _SCAN), len(stream))
    start += 2 + int.from_bytes(stream[start + 2 : start + 4], "big")
    first, *stretches = stream[start:].split(b"\xff")
    if not stretches:
        raise ValueError("it breaks off in its header")
    more = (_MORE[_KINDS[stretch[0] if stretch else 0]] + stretch for stretch in stretches)
    return stream[:start] + first + b"".join(more)


def _segments(stream: bytes) -> Iterator[tuple[int, int]]:
    """(marker, place) of each segment up to the first scan."""
    place, marker = 2, 0
    while place + 9 <= len(stream) and marker != _SCAN:
        marker = stream[place + 1]
        if marker == 0xFF:
            place += 1
            continue
        yield marker, place
        place += 2 + int.from_bytes(stream[place + 2 : place + 4], "big")
