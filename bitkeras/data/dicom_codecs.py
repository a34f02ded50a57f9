"""pydicom, and what decodes the compressed pixels of DICOM files.

Pillow decodes baseline JPEG and imagecodecs all else that pydicom does not decode itself; both are made known to it by
the interface for decoders of others (pydicom's guide "Pixel data decoder plugins"), since none of its own sees that a
JPEG lacks data. python-gdcm ends the whole process on some damaged files (3.2.6: an uncaught exception of C++), and
pylibjpeg-libjpeg is under the GPL.
"""

from __future__ import annotations

import functools
import io
import logging
import struct
import warnings
from typing import TYPE_CHECKING

import numpy as np
from PIL import JpegImagePlugin

from bitkeras.data.jpeg_streams import decode_whole, frame_size
from bitkeras.errors import UserError

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

PLUGIN = "bitkeras"

_BASELINE, _EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
_JPEG_LOSSLESS = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG_2000 = (
    *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"),
    *("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"),
)
_JPEG_2000_START = b"\xff\x4f\xff\x51"
# The name is pydicom's.
DECODER_DEPENDENCIES = {
    _BASELINE: ("numpy", "pillow"),
    **{uid: ("numpy", "imagecodecs") for uid in (_EXTENDED, *_JPEG_LOSSLESS, *_JPEG_LS, *_JPEG_2000)},
}


@functools.lru_cache(maxsize=1)
def import_pydicom():
    """The package pydicom, with the decoders here, and its remarks on unusual files silenced.

    Raises:
      UserError: it is not installed.
    """
    try:
        import pydicom
        import pydicom.pixels
    except ImportError:
        raise UserError(
            "DICOM files need the packages pydicom (version 3, for Python 3.10 or later) and imagecodecs; install them "
            "with: pip install -c constraints.txt -e '.[dicom]'"
        ) from None
    # Values that break a rule of the standard are frequent, and what is read here is checked here.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="pydicom")
    for uid in DECODER_DEPENDENCIES:
        pydicom.pixels.get_decoder(uid).add_plugin(PLUGIN, (__name__, "decode_frame"))
    _end_looking_for_jpeg_2000(pydicom.pixels.decoders.base)
    return pydicom


def _end_looking_for_jpeg_2000(module) -> None:
    """Tells where the data start: pydicom 3.0.2 looks forever where a box before them says that it has length 0."""
    read = module.get_j2k_parameters

    def read_from_start(codestream: bytes) -> dict:
        start = codestream.find(_JPEG_2000_START)
        return read(codestream[start:] if start >= 0 else b"")

    module.get_j2k_parameters = read_from_start


def is_available(uid: str) -> bool:
    """Whether what decodes it is installed; pydicom asks for each transfer syntax."""
    if uid == _BASELINE:
        return True
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        return False
    return uid in DECODER_DEPENDENCIES


def decode_frame(encoded: bytes, runner: DecodeRunner) -> bytes:
    """The values of one frame, as they lie in memory; `runner` is told in which form."""
    syntax = runner.transfer_syntax
    rows, columns = _jpeg_2000_size(encoded) if syntax in _JPEG_2000 else frame_size(encoded)
    if (rows, columns) != (runner.rows, runner.columns):
        # Before memory is taken for them.
        raise ValueError(f"the data are {columns}x{rows} pixels, the header says {runner.columns}x{runner.rows}")
    pixels = (_decode_jpeg_2000 if syntax in _JPEG_2000 else _decode_jpeg)(encoded, runner)
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    if pixels.ndim == 3:
        runner.set_option("planar_configuration", 0)
    return pixels.tobytes()


def _decode_jpeg_2000(encoded: bytes, runner: DecodeRunner) -> np.ndarray:
    import imagecodecs

    if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):
        # The transformation of colours is part of the format, and undone by whoever decodes it.
        runner.set_option("photometric_interpretation", "RGB")
    return imagecodecs.jpeg2k_decode(encoded)


def _decode_jpeg(encoded: bytes, runner: DecodeRunner) -> np.ndarray:
    """JPEG and JPEG-LS."""
    # CharLS can look for what is missing for half a minute. Frames are padded to an even length, with 00 or with ff.
    if not encoded.rstrip(b"\0\xff").endswith(b"\xff\xd9"):
        raise ValueError("the JPEG data are cut short")
    if runner.transfer_syntax == _BASELINE or (runner.transfer_syntax == _EXTENDED and runner.bits_stored == 8):
        return decode_whole(encoded, lambda stream: _decode_8_bits(stream, runner.samples_per_pixel))
    import imagecodecs

    if runner.transfer_syntax in _JPEG_LS:
        return imagecodecs.jpegls_decode(encoded)
    return decode_whole(encoded, imagecodecs.jpeg8_decode)


def _decode_8_bits(encoded: bytes, num_samples: int) -> np.ndarray:
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(encoded))
    if num_samples > 1 and "adobe_transform" not in image.info:
        # Colours as they are stored: the header of the DICOM file says what they are.
        image.draft("YCbCr", image.size)
    return np.asarray(image)


def _jpeg_2000_size(encoded: bytes) -> tuple[int, int]:
    """(rows, columns) as the SIZ marker says, which stands right behind the start of the data."""
    start = encoded.find(_JPEG_2000_START)
    if start < 0 or len(encoded) < start + 24:
        raise ValueError("the JPEG 2000 data have no header")
    right, bottom, left, top = struct.unpack(">4I", encoded[start + 8 : start + 24])
    return bottom - top, right - left


def plugin_for(syntax: str) -> str:
    """The decoder to ask pydicom for; an empty name lets it choose."""
    return PLUGIN if syntax in DECODER_DEPENDENCIES and is_available(syntax) else ""


@functools.lru_cache(maxsize=64)
def missing_decoder(syntax: str) -> str:
    """How a sentence about a transfer syntax that cannot be decoded goes on, or "" where it can be."""
    pydicom = import_pydicom()
    name = pydicom.uid.UID(syntax).name
    try:
        decoder = pydicom.pixels.get_decoder(syntax)
    except NotImplementedError:
        return f"{name}, which pydicom does not decode; convert it to a lossless transfer syntax or take it out."
    if decoder.is_available:
        return ""
    return f"{name}, whose decoder is not installed; install it with: pip install imagecodecs"
