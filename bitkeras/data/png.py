"""PNG for pixels that are decoded at once and forgotten."""

from __future__ import annotations

import struct
import zlib

import numpy as np


def stored_png(pixels: np.ndarray) -> bytes:
    """uint8 [H, W] or [H, W, 3] -> PNG bytes of the same pixels, stored without compression (RFC 2083).

    TensorFlow's and Pillow's encoders try five filters on every line even where nothing is compressed: for 512x512 grey
    pixels they take 4 ms, and 9 ms with the fastest compression, this takes 0.6 ms, and decoding 0.8 instead of 2.5.
    """
    height, width = pixels.shape[:2]
    # Each line begins with the number of its filter; 0 is none.
    lines = np.zeros((height, 1 + pixels.size // height), np.uint8)
    lines[:, 1:] = pixels.reshape(height, -1)
    grey, rgb = 0, 2
    header = struct.pack(">IIBBBBB", width, height, 8, rgb if pixels.ndim == 3 else grey, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
        for kind, data in parts
    )
