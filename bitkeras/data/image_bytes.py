"""What the bytes of an image file say before they are decoded, read with tensor operations alone.

So that an exported model, which holds no Python, turns and refuses images as training does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
HEAD_BYTES = 168
# A decoder reads zeros for what its last unit of blocks lacks, so it is the next that shows whether data was missing. A
# unit has up to 10 blocks, and zeros make up to 63 coefficients of 3 bits in each: 240 bytes.
_NUM_ZEROS = 512
# The first of the eight markers that a JPEG may hold after every so many units.
_RESTART = 0xD0

_ALL = 0xFF
# The high byte of a side below 8,192 px.
_SIDE = (b"\x00", 0xE0)
# {offset: (bytes, bits of them that count)} of files that a plain decoder shows as a viewer does: no rotation, no
# transparency, no unusual colours, no size that could fill the memory. All of that lies at fixed offsets in them.
_PLAIN = (
    # JPEG in colour as libjpeg writes it: JFIF, two tables, then the frame, baseline or progressive.
    {
        0: (JPEG + b"\xe0\x00\x10JFIF\x00", _ALL),
        20: (b"\xff\xdb\x00\x43", _ALL),
        89: (b"\xff\xdb\x00\x43", _ALL),
        158: (b"\xff", _ALL),
        159: (b"\xc0", 0xFD),
        160: (b"\x00\x11\x08", _ALL),
        163: _SIDE,
        165: _SIDE,
        167: (b"\x03", _ALL),
    },
    # The same in grey: one table.
    {
        0: (JPEG + b"\xe0\x00\x10JFIF\x00", _ALL),
        20: (b"\xff\xdb\x00\x43", _ALL),
        89: (b"\xff", _ALL),
        90: (b"\xc0", 0xFD),
        91: (b"\x00\x0b\x08", _ALL),
        94: _SIDE,
        96: _SIDE,
        98: (b"\x01", _ALL),
    },
    # PNG in grey or RGB with the pixels right behind its header, so without transparency or Exif.
    {
        0: (PNG + b"\x00\x00\x00\x0dIHDR\x00\x00", _ALL),
        18: _SIDE,
        20: (b"\x00\x00", _ALL),
        22: _SIDE,
        25: (b"\x00", 0xFD),
        37: (b"IDAT", _ALL),
    },
    # BMP of 24 bits a pixel, uncompressed, from the bottom up; the others TensorFlow shows wrongly or refuses.
    {
        0: (b"BM", _ALL),
        14: (b"\x20", 0x20),
        15: (b"\x00\x00\x00", _ALL),
        19: _SIDE,
        20: (b"\x00\x00", _ALL),
        23: _SIDE,
        24: (b"\x00\x00", _ALL),
        28: (b"\x18\x00\x00\x00\x00\x00", _ALL),
    },
)
# The first two of them are JPEG; height and width, 16 bits each, stand here.
_JPEG_SIZES = (163, 94)


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """`_PLAIN` as uint8 [formats, HEAD_BYTES]: the bytes, and the bits of them that count."""
    wanted, counted = np.zeros([2, len(_PLAIN), HEAD_BYTES], np.uint8)
    for number, fields in enumerate(_PLAIN):
        for offset, (content, bits) in fields.items():
            wanted[number, offset : offset + len(content)] = np.frombuffer(content, np.uint8)
            counted[number, offset : offset + len(content)] = bits
    return wanted, counted


_WANTED, _COUNTED = _tables()


def more_before(data: bytes) -> tuple[np.ndarray, list[bytes]]:
    """What `with_more_data` writes for 0xFF in compressed pixels: a number for each byte behind it, and its meaning.

    Args:
      data: what is added, without 0xFF.
    """
    restarts = [b"\xff" + bytes([_RESTART + number]) + data for number in range(8)]
    # Before a restart only the one before it: a decoder that does not lack that passes over it, and it would take a
    # later one for its own.
    more = [b"", *(data + restarts[number - 1] for number in range(8)), data + b"".join(restarts)]
    kinds = np.full([256], 9, np.int32)
    # 0xFF 0x00 is a byte of data and no marker.
    kinds[0] = 0
    kinds[_RESTART : _RESTART + 8] = np.arange(1, 9)
    return kinds, [before + b"\xff" for before in more]


_KINDS, _MORE = more_before(bytes(_NUM_ZEROS))


def read_head(encoded: tf.Tensor) -> tf.Tensor:
    """The first bytes of a file (scalar string), uint8 [HEAD_BYTES]; zeros behind a shorter one."""
    return tf.io.decode_raw(encoded, tf.uint8, fixed_length=HEAD_BYTES)


def is_plain(heads: tf.Tensor) -> tf.Tensor:
    """Whether `tf.io.decode_image` alone shows these files as a viewer does: uint8 [..., HEAD_BYTES] -> bool [...]."""
    fields = tf.bitwise.bitwise_and(heads[..., tf.newaxis, :], _COUNTED)
    return tf.reduce_any(tf.reduce_all(fields == _WANTED, axis=-1), axis=-1)


def plain_jpeg_sizes(heads: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Which of N files, uint8 [N, HEAD_BYTES], are JPEG that `is_plain`, bool [N]; their (height, width), int32 [N, 2].

    The size that is given of other files makes no sense.
    """
    num_kinds = len(_JPEG_SIZES)
    fields = tf.bitwise.bitwise_and(heads[:, tf.newaxis], _COUNTED[:num_kinds])
    kinds = tf.reduce_all(fields == _WANTED[:num_kinds], axis=-1)
    digits = tf.cast(tf.where(kinds[:, :1], *(heads[:, at : at + 4] for at in _JPEG_SIZES)), tf.int32)
    return tf.reduce_any(kinds, axis=-1), 256 * digits[:, ::2] + digits[:, 1::2]


def starts_with(head: tf.Tensor, signature: bytes) -> tf.Tensor:
    """Whether a head begins with `signature`."""
    return tf.reduce_all(head[: len(signature)] == np.frombuffer(signature, np.uint8))


def is_decodable(encoded: bytes) -> bool:
    """Whether `decoding.decode_image` takes a file with these first bytes; it may still be damaged."""
    head = np.frombuffer(encoded[:HEAD_BYTES].ljust(HEAD_BYTES, b"\x00"), np.uint8)
    plain = ((head & _COUNTED) == _WANTED).all(axis=-1).any()
    return bool(plain) or encoded.startswith((JPEG, PNG))


def png_size(head: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """(height, width) as the header of a PNG says, int64."""
    return _unsigned(head, 20, 4), _unsigned(head, 16, 4)


def jpeg_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """The Exif orientation of a JPEG, int64 1 to 8; 1 where there is none, or none that makes sense."""
    data = _data(encoded)
    name = int.from_bytes(b"Exif\0\0", "big")

    def is_exif(position):
        return (_unsigned(data, position, 2) == 0xFFE1) & (_unsigned(data, position + 4, 6) == name)

    def is_passed(position):
        marker = _unsigned(data, position, 2)
        is_note = ((marker >= 0xFFE0) & (marker <= 0xFFEF)) | (marker == 0xFFFE)
        return is_note & ~is_exif(position)

    position = _find_segment(data, is_passed)
    return tf.where(is_exif(position), _orientation(data, position + 10), 1)


def png_orientation(encoded: tf.Tensor) -> tf.Tensor:
    """The orientation in the eXIf chunk before the pixels of a PNG, int64 1 to 8; 1 where there is none."""
    data = _data(encoded)
    position, is_there = _find_chunk(data, b"eXIf")
    return tf.where(is_there, _orientation(data, position + 8), 1)


def png_has_alpha(encoded: tf.Tensor, head: tf.Tensor) -> tf.Tensor:
    """Whether a PNG is transparent anywhere: by a channel, or by palette entries or a colour named in a tRNS chunk."""
    _, is_there = _find_chunk(_data(encoded), b"tRNS")
    return is_there | (tf.bitwise.bitwise_and(head[25], 4) > 0)


def with_more_data(encoded: tf.Tensor) -> tf.Tensor:
    """A JPEG with more data wherever its compressed pixels stop: zeros, and the marks of restarts that may be lost.

    A decoder passes over what is left behind complete data, so nothing changes. Where data is missing it fills the
    rest with grey and says nothing; here it finds the zeros instead, and the pixels differ.
    """
    data = _data(encoded)
    scan = 0xFFDA
    position = _find_segment(data, lambda position: _unsigned(data, position, 2) != scan)
    # The last byte of the scan's header included, so that something is always left.
    size = tf.size(data, tf.int64)
    start = tf.minimum(position + 1 + _unsigned(data, position + 2, 2), size - 1)
    header = tf.strings.substr(encoded, tf.constant(0, tf.int64), start)
    stretches = tf.strings.split(tf.strings.substr(encoded, start, size - start), b"\xff")
    behind = tf.io.decode_raw(stretches[1:], tf.uint8, fixed_length=1)[:, 0]
    more = tf.gather(_MORE, tf.gather(_KINDS, tf.cast(behind, tf.int32)))
    return header + stretches[0] + tf.strings.reduce_join(more + stretches[1:])


def _data(encoded: tf.Tensor) -> tf.Tensor:
    """Scalar string -> uint8 [N]."""
    return tf.io.decode_raw(encoded, tf.uint8)


def _unsigned(data: tf.Tensor, position, num_bytes: int, *, little=False) -> tf.Tensor:
    """The number in `num_bytes` from `position` on, int64, with a shape as `position`; big-endian unless `little`.

    Behind the end the last byte stands again and again: damaged notes about an image are no reason to refuse it.
    """
    position = tf.cast(position, tf.int64)
    places = tf.clip_by_value(
        position[..., tf.newaxis] + tf.range(num_bytes, dtype=tf.int64), 0, tf.size(data, tf.int64) - 1
    )
    digits = tf.cast(tf.gather(data, places), tf.int64)
    digits = tf.where(little, digits[..., ::-1], digits)
    return tf.reduce_sum(digits * [256**place for place in reversed(range(num_bytes))], axis=-1)


def _find_segment(data: tf.Tensor, is_passed: Callable) -> tf.Tensor:
    """The position of the first segment of a JPEG that is not passed over."""

    def is_fill(position):
        return _unsigned(data, position, 2) == 0xFFFF

    return _walk(
        data,
        2,
        lambda position: is_fill(position) | ((_unsigned(data, position, 1) == 0xFF) & is_passed(position)),
        lambda position: tf.where(is_fill(position), tf.constant(1, tf.int64), 2 + _unsigned(data, position + 2, 2)),
    )


def _find_chunk(data: tf.Tensor, name: bytes) -> tuple[tf.Tensor, tf.Tensor]:
    """(position, whether it is there) of a chunk before the pixels of a PNG."""
    wanted, pixels, end = (int.from_bytes(kind, "big") for kind in (name, b"IDAT", b"IEND"))

    def kind(position):
        return _unsigned(data, position + 4, 4)

    position = _walk(
        data,
        len(PNG),
        lambda position: (kind(position) != wanted) & (kind(position) != pixels) & (kind(position) != end),
        lambda position: 12 + _unsigned(data, position, 4),
    )
    return position, kind(position) == wanted


def _walk(data: tf.Tensor, start: int, is_passed: Callable, length: Callable) -> tf.Tensor:
    """The position of the first part of a file that is not passed over."""
    (position,) = tf.while_loop(
        lambda position: (position < tf.size(data, tf.int64)) & is_passed(position),
        lambda position: (position + length(position),),
        (tf.constant(start, tf.int64),),
        # Megabytes of tiny parts, which no program writes, would take minutes.
        maximum_iterations=1024,
    )
    return position


def _orientation(data: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Tag 0x0112 of the first directory of the Exif block (a TIFF file) at `start`; 1 where it makes no sense."""
    little = _unsigned(data, start, 2) == int.from_bytes(b"II", "big")
    directory = start + _unsigned(data, start + 4, 4, little=little)
    # A camera writes about a dozen entries.
    num_entries = tf.minimum(_unsigned(data, directory, 2, little=little), 512)
    entries = directory + 2 + 12 * tf.range(num_entries)
    is_orientation = _unsigned(data, entries, 2, little=little) == 0x0112
    found = tf.reduce_max(tf.where(is_orientation, _unsigned(data, entries + 8, 2, little=little), 0))
    return tf.where((found >= 1) & (found <= 8), found, 1)
