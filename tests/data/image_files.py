"""Image files of many kinds, by Pillow or by hand, and what Pillow shows of them."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

ORIENTATION = 0x0112


def picture(width: int = 60, height: int = 45) -> Image.Image:
    """A red disc off the centre on a ground that changes from left to right and from top to bottom; no mid grey."""
    y, x = np.mgrid[:height, :width] / np.reshape([height, width], [2, 1, 1])
    ground = np.stack([160 + 60 * x, 90 + 80 * y, 200 - 60 * x], axis=-1)
    disc = ((x - 0.3) ** 2 + (y - 0.6) ** 2 < 0.05)[..., np.newaxis]
    return Image.fromarray(np.where(disc, [190, 40, 60], ground).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def oriented(orientation: int, *, big_endian: bool = False) -> bytes:
    """An Exif block with a maker's name before the orientation, as cameras write it."""
    exif = Image.Exif()
    exif.endian = ">" if big_endian else "<"
    exif[0x010F] = "maker"
    exif[ORIENTATION] = orientation
    return exif.tobytes()


def shown_by_pillow(encoded: bytes) -> np.ndarray:
    """uint8 [H, W, 3], upright and on white."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(encoded)))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def segment(marker: int, content: bytes) -> bytes:
    """Of a JPEG."""
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """A JPEG with more segments right behind its first marker."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def chunk(name: bytes, content: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(samples: np.ndarray, *, bits: int, colour_type: int, chunks: bytes = b"") -> bytes:
    """A PNG by the letter of its specification: samples [H, W, C] below 2**bits; `chunks` stand before the pixels."""
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    rows = b"".join(b"\x00" + packed(row, bits) for row in samples.reshape(height, -1))
    parts = [chunk(b"IHDR", header), chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def packed(row: np.ndarray, bits: int) -> bytes:
    """Samples -> bytes, the highest bit first."""
    places = row.astype(np.int64)[:, np.newaxis] >> np.arange(bits - 1, -1, -1)
    return np.packbits((places & 1).astype(np.uint8)).tobytes()


def tiff(samples: np.ndarray, *, bits: int, photometric: int = 1) -> bytes:
    """A grey TIFF of one strip by the letter of its specification: samples [H, W] below 2**bits, little-endian."""
    height, width = samples.shape
    strip = b"".join(row.astype("<u2").tobytes() if bits == 16 else packed(row, bits) for row in samples)
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1, 278: height, 279: len(strip)}
    start = 8 + 2 + 12 * len(tags) + 4
    tags[273] = start
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\x00" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + strip
