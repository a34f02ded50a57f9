"""Files that TensorFlow does not decode, or not as a viewer shows them, read by Pillow: TIFF, GIF and most BMP.

What is shown of them is what `bitkeras.data.decoding` shows of PNG: upright, transparency on white, of 16 bits the
eight highest, no colour profile. Of several pages or frames it is the first.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageOps, JpegImagePlugin, TiffImagePlugin

from bitkeras.data.decoding import MAX_PIXELS, TOO_LARGE
from bitkeras.data.image_bytes import is_decodable
from bitkeras.data.jpeg_streams import decode_whole

# Not Image.open, which tries some forty formats and has a limit of its own, global to the process.
_READERS = {
    b"II*\x00": TiffImagePlugin.TiffImageFile,
    b"MM\x00*": TiffImagePlugin.TiffImageFile,
    # BigTIFF.
    b"II+\x00": TiffImagePlugin.TiffImageFile,
    b"MM\x00+": TiffImagePlugin.TiffImageFile,
    b"GIF8": GifImagePlugin.GifImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
}
_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_COMPRESSION, _JPEG, _JPEG_TABLES = 259, 7, 347
# Offsets and sizes of the strips, or of the tiles.
_STRIPS, _TILES = (273, 279), (324, 325)


def decodable(encoded: bytes) -> bytes:
    """The bytes of an image file, made PNG where `decoding.decode_image` would not take them.

    Raises:
      ValueError: as `read_pixels`.
    """
    if is_decodable(encoded):
        return encoded
    made = io.BytesIO()
    # Level 1: a quarter of the default's time, a third larger.
    Image.fromarray(read_pixels(encoded)).save(made, "PNG", compress_level=1)
    return made.getvalue()


def read_pixels(encoded: bytes) -> np.ndarray:
    """The first picture of a TIFF, GIF or BMP file, uint8 [H, W, 3].

    Raises:
      ValueError: it is no such file, is damaged, too large, or of numbers without a known range; the text says which.
    """
    if not encoded:
        raise ValueError("it is empty (0 bytes)")
    reader = next((reader for start, reader in _READERS.items() if encoded.startswith(start)), None)
    if reader is None:
        raise ValueError("it is no JPEG, PNG, TIFF, BMP or GIF, whatever its name ends in")
    try:
        image = reader(io.BytesIO(encoded))
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{TOO_LARGE} ({image.width:,} x {image.height:,})")
        shown = np.asarray(_as_shown(image))
        # When libtiff has seen that they have the size they should have.
        _require_whole_jpegs(image, encoded)
        return shown
    except Exception as error:  # Pillow promises no list of what damaged data raises.
        if isinstance(error, ValueError):
            raise
        raise ValueError(f"it is damaged, or of a kind that Pillow does not read ({error})") from error


def _require_whole_jpegs(image: Image.Image, encoded: bytes) -> None:
    """ValueError where one of the JPEGs inside a TIFF lacks data; libtiff says nothing of it either."""
    tags = getattr(image, "tag_v2", {})
    if tags.get(_COMPRESSION) != _JPEG:
        return
    # What all strips share stands in a JPEG without pixels; its mark of the end and their marks of the start go.
    tables = tags.get(_JPEG_TABLES, b"")[:-2] or b"\xff\xd8"
    offsets, sizes = _STRIPS if _STRIPS[0] in tags else _TILES
    for offset, size in zip(tags[offsets], tags[sizes]):
        stream = tables + encoded[offset + 2 : offset + size]
        decode_whole(stream, lambda stream: np.asarray(JpegImagePlugin.JpegImageFile(io.BytesIO(stream))))


def _as_shown(image: Image.Image) -> Image.Image:
    image.load()
    if image.mode.startswith("I;16"):
        return ImageOps.exif_transpose(_eight_bits(image)).convert("RGB")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are numbers of 32 bits whose range it does not tell; save it with 8 or 16 bits")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: TiffImagePlugin.TiffImageFile) -> Image.Image:
    """Grey of 12 or 16 bits -> of 8."""
    bits = image.tag_v2[_BITS_PER_SAMPLE][0]
    values = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    # Pillow inverts 8 bits and forgets 16.
    shown = Image.fromarray(255 - values if image.tag_v2[_PHOTOMETRIC] == _WHITE_IS_ZERO else values)
    shown.info = image.info
    return shown
