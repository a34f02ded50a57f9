"""pydicom, and what decodes the compressed pixels of DICOM files.

imagecodecs decodes all that pydicom, and Pillow for JPEG, do not decode themselves; it is made known to pydicom by the
interface for decoders of others (pydicom's guide "Pixel data decoder plugins"). python-gdcm, which does the same, ends
the whole process on some damaged files (3.2.6: an uncaught exception of C++), and pylibjpeg-libjpeg is under the GPL.
"""

from __future__ import annotations

import functools
import logging
import struct
import warnings
from typing import TYPE_CHECKING

from bitkeras.errors import UserError

if TYPE_CHECKING:
    from pydicom.pixels.decoders.base import DecodeRunner

PLUGIN = "imagecodecs"

_JPEG = ("1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")
_JPEG_2000 = (
    *("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"),
    *("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"),
)
_BASELINE = "1.2.840.10008.1.2.4.50"
# SOF0 to SOF15 without the three that mean something else, and that of JPEG-LS.
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
# The name is pydicom's.
DECODER_DEPENDENCIES = {uid: ("numpy", "imagecodecs") for uid in (*_JPEG, *_JPEG_LS, *_JPEG_2000)}


@functools.lru_cache(maxsize=1)
def import_pydicom():
    """The package pydicom, with imagecodecs as a decoder, and its remarks on unusual files silenced.

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
    return pydicom


def is_available(uid: str) -> bool:
    """Whether imagecodecs is installed; pydicom asks for each transfer syntax."""
    try:
        import imagecodecs  # noqa: F401
    except ImportError:
        return False
    return uid in DECODER_DEPENDENCIES


def decode_frame(encoded: bytes, runner: DecodeRunner) -> bytes:
    """The values of one frame, as they lie in memory; `runner` is told in which form."""
    import imagecodecs

    syntax = runner.transfer_syntax
    rows, columns = _jpeg_2000_size(encoded) if syntax in _JPEG_2000 else _jpeg_size(encoded)
    if (rows, columns) != (runner.rows, runner.columns):
        # Before memory is taken for them.
        raise ValueError(f"the data are {columns}x{rows} pixels, the header says {runner.columns}x{runner.rows}")
    if syntax in _JPEG_2000:
        pixels = imagecodecs.jpeg2k_decode(encoded)
        if runner.photometric_interpretation in ("YBR_ICT", "YBR_RCT"):
            # The transformation of colours is part of the format, and undone by whoever decodes it.
            runner.set_option("photometric_interpretation", "RGB")
    else:
        # libjpeg fills up with grey what is missing, and CharLS can look for it for half a minute. Frames are padded to
        # an even length, with 00 or with ff.
        if not encoded.rstrip(b"\0\xff").endswith(b"\xff\xd9"):
            raise ValueError("the JPEG data are cut short")
        pixels = (imagecodecs.jpegls_decode if syntax in _JPEG_LS else imagecodecs.jpeg8_decode)(encoded)
    runner.set_option("bits_allocated", 8 * pixels.itemsize)
    if pixels.ndim == 3:
        runner.set_option("planar_configuration", 0)
    return pixels.tobytes()


def _jpeg_size(encoded: bytes) -> tuple[int, int]:
    """(rows, columns) as the frame header of JPEG or JPEG-LS data says."""
    place = 2
    while place + 9 <= len(encoded):
        if encoded[place + 1] in _FRAME_MARKERS:
            return int.from_bytes(encoded[place + 5 : place + 7], "big"), int.from_bytes(
                encoded[place + 7 : place + 9], "big"
            )
        place += 2 + int.from_bytes(encoded[place + 2 : place + 4], "big")
    raise ValueError("the JPEG data have no frame header")


def _jpeg_2000_size(encoded: bytes) -> tuple[int, int]:
    """(rows, columns) as the SIZ marker says, which stands right behind the start of the data."""
    start = encoded.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(encoded) < start + 24:
        raise ValueError("the JPEG 2000 data have no header")
    right, bottom, left, top = struct.unpack(">4I", encoded[start + 8 : start + 24])
    return bottom - top, right - left


def plugin_for(syntax: str) -> str:
    """The decoder to ask pydicom for; an empty name lets it choose."""
    if syntax == _BASELINE:
        return "pillow"
    decodes_all = syntax in (*_JPEG_LS, *_JPEG_2000) or syntax in _JPEG[1:]
    return PLUGIN if decodes_all and is_available(syntax) else ""


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
    return f"{name}, whose decoder is not installed; install it with: pip install {PLUGIN}"
