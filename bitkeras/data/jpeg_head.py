"""What the first bytes of a JPEG say, where it is as libjpeg writes it: JFIF, its tables, then the frame.

In such a file the size stands at a fixed place, and there is no Exif rotation and no unusual colour space, so that a
part of it can be decoded by itself. Anything else is for `preprocess.decode_image`.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

HEAD_BYTES = 168

_ALL = 0xFF
# {offset: (bytes, bits of them that count)}. The frame is baseline or progressive, of 8 bits, and has 3 components
# behind the two tables of a colour image, 1 behind the table of a grey one.
_ANY = {0: (b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", _ALL), 20: (b"\xff\xdb\x00\x43", _ALL)}
_COLOUR = {
    **_ANY,
    89: (b"\xff\xdb\x00\x43", _ALL),
    158: (b"\xff", _ALL),
    159: (b"\xc0", 0xFD),
    160: (b"\x00\x11\x08", _ALL),
    167: (b"\x03", _ALL),
}
_GREY = {**_ANY, 89: (b"\xff", _ALL), 90: (b"\xc0", 0xFD), 91: (b"\x00\x0b\x08", _ALL), 98: (b"\x01", _ALL)}
# Where height and width stand, 16 bits each.
_SIZE_AT = (163, 94)


def _tables() -> tuple[np.ndarray, np.ndarray]:
    """uint8 [2, HEAD_BYTES]: the bytes of a colour and of a grey image, and the bits of them that count."""
    wanted, counted = np.zeros([2, 2, HEAD_BYTES], np.uint8)
    for number, fields in enumerate((_COLOUR, _GREY)):
        for offset, (content, bits) in fields.items():
            wanted[number, offset : offset + len(content)] = np.frombuffer(content, np.uint8)
            counted[number, offset : offset + len(content)] = bits
    return wanted, counted


_WANTED, _COUNTED = _tables()


def read_head(encoded: tf.Tensor) -> tf.Tensor:
    """The first bytes of a file (scalar string), uint8 [HEAD_BYTES]; zeros behind a shorter one."""
    return tf.io.decode_raw(encoded, tf.uint8, fixed_length=HEAD_BYTES)


def plain_sizes(heads: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Of N files, uint8 [N, HEAD_BYTES]: which are such JPEGs, bool [N]; their (height, width), int32 [N, 2]."""
    fields = tf.bitwise.bitwise_and(heads[:, tf.newaxis], _COUNTED)
    kinds = tf.reduce_all(fields == _WANTED, axis=-1)
    digits = tf.cast(tf.where(kinds[:, :1], *(heads[:, at : at + 4] for at in _SIZE_AT)), tf.int32)
    return tf.reduce_any(kinds, axis=-1), 256 * digits[:, ::2] + digits[:, 1::2]
