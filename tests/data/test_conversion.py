"""TIFF, GIF and BMP as a viewer shows them: against Pillow's own plain reading, and against files made by hand."""

import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from image_files import ORIENTATION, picture, png, saved, shown_by_pillow, tiff
from PIL import Image

from bitkeras.data.conversion import decodable, read_pixels
from bitkeras.data.decoding import decode_image

SAMPLES = np.random.default_rng(0).integers(0, 2**16, (9, 7))


def assert_shown(encoded, expected, *, within=0):
    shown = read_pixels(encoded)
    assert shown.dtype == np.uint8 and shown.shape == np.shape(expected)
    np.testing.assert_allclose(shown.astype(int), np.asarray(expected, int), atol=within)
    # Made PNG on the way, as `ImageSource.read` does, it is the same.
    np.testing.assert_array_equal(decode_image(tf.constant(decodable(encoded))), shown)


def grey(values):
    return np.repeat(np.asarray(values)[..., np.newaxis], 3, axis=-1)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "1"])
def test_tiff(mode, compression):
    image = picture().convert(mode)
    assert_shown(saved(image, "TIFF", compression=compression), image.convert("RGB"))


def test_tiff_of_other_compressions():
    image = picture()
    assert_shown(saved(image, "TIFF", compression="jpeg", quality=95), image, within=40)
    black = image.convert("1")
    for compression in ("group3", "group4"):
        assert_shown(saved(black, "TIFF", compression=compression), black.convert("RGB"))
    assert_shown(saved(image, "TIFF", big_tiff=True), image)


def test_tiff_of_four_inks():
    ink = np.random.default_rng(1).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    left = 255 - ink.astype(float)
    expected = np.round(left[..., :3] * left[..., 3:] / 255)
    assert_shown(saved(Image.fromarray(ink, "CMYK"), "TIFF"), expected, within=1)


def test_tiff_of_16_bits_is_scaled_by_the_full_range():
    for compression in (None, "tiff_lzw"):
        encoded = saved(Image.fromarray(SAMPLES.astype(np.uint16)), "TIFF", compression=compression)
        assert_shown(encoded, grey(SAMPLES >> 8))
    assert_shown(tiff(SAMPLES, bits=16), grey(SAMPLES >> 8))
    # As the same numbers in a PNG are.
    same = decode_image(tf.constant(png(SAMPLES[..., np.newaxis], bits=16, colour_type=0)))
    np.testing.assert_array_equal(read_pixels(tiff(SAMPLES, bits=16)), same)


def test_tiff_of_16_bits_from_a_big_endian_machine():
    swapped = Image.frombytes("I;16B", (7, 9), SAMPLES.astype(">u2").tobytes())
    assert saved(swapped, "TIFF").startswith(b"MM")
    assert_shown(saved(swapped, "TIFF"), grey(SAMPLES >> 8))


def test_a_tiff_may_say_that_white_is_zero():
    assert_shown(tiff(SAMPLES, bits=16, photometric=0), grey(255 - (SAMPLES >> 8)))
    assert_shown(tiff(SAMPLES >> 8, bits=8, photometric=0), grey(255 - (SAMPLES >> 8)))
    assert_shown(tiff(SAMPLES % 2, bits=1, photometric=0), grey(255 - 255 * (SAMPLES % 2)))


def test_a_tiff_of_12_bits_has_their_range():
    samples = SAMPLES[:, :6] >> 4
    assert_shown(tiff(samples, bits=12), grey(samples >> 4))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_is_turned(orientation):
    for image in (picture(), Image.fromarray(SAMPLES.astype(np.uint16))):
        encoded = saved(image, "TIFF", tiffinfo={ORIENTATION: orientation})
        assert read_pixels(encoded).shape[:2] == (image.size if orientation >= 5 else image.size[::-1])
    assert_shown(
        saved(picture(), "TIFF", tiffinfo={ORIENTATION: orientation}), turned(np.asarray(picture()), orientation)
    )


def turned(image, orientation):
    """Exif 2.3, section 4.6.4: where the first row and the first column of the picture lie."""
    image = image.swapaxes(0, 1) if orientation >= 5 else image
    image = image[:, ::-1] if orientation in (2, 3, 6, 7) else image
    return image[::-1] if orientation in (3, 4, 7, 8) else image


def test_of_several_pages_the_first_is_shown():
    pages = {"save_all": True, "append_images": [picture().rotate(180), picture(20, 30)]}
    assert_shown(saved(picture(), "TIFF", **pages), picture())
    frames = {"save_all": True, "append_images": [picture().rotate(180).convert("P")]}
    first = picture().convert("P", palette=Image.Palette.ADAPTIVE)
    assert_shown(saved(first, "GIF", **frames), first.convert("RGB"))


def test_what_is_transparent_is_white():
    image = picture()
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    assert_shown(saved(image, "TIFF"), shown_by_pillow(saved(image, "PNG")))
    palette = Image.fromarray(np.arange(63, dtype=np.uint8).reshape(9, 7) % 4).convert("L").quantize(4)
    encoded = saved(palette, "GIF", transparency=palette.getpixel((3, 3)))
    hidden = np.asarray(palette) == palette.getpixel((3, 3))
    shown = read_pixels(encoded)
    assert hidden.any() and (shown[hidden] == 255).all() and (shown[~hidden] < 255).all()


@pytest.mark.parametrize("mode", ["P", "L", "1", "RGBA"])
def test_bmp(mode):
    image = picture().convert(mode)
    assert_shown(saved(image, "BMP"), image.convert("RGB"))


def test_bmp_from_the_top_down():
    """A negative height: 2 rows of 3 pixels, blue first, each row padded to 12 bytes."""
    rows = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    pixels = b"".join(row[:, ::-1].tobytes() + bytes(3) for row in rows)
    header = struct.pack("<2sIIIIiiHHIIiiII", b"BM", 54 + len(pixels), 0, 54, 40, 3, -2, 1, 24, 0, 0, 0, 0, 0, 0)
    assert_shown(header + pixels, rows)


def test_what_tensorflow_decodes_is_left_as_it_is():
    for kind in ("JPEG", "PNG", "BMP"):
        encoded = saved(picture(), kind)
        assert decodable(encoded) is encoded


@pytest.mark.parametrize(
    ("encoded", "reason"),
    [
        (b"", "empty"),
        (b"<html>404 not found</html>", "no JPEG, PNG, TIFF, BMP or GIF"),
        (b"II*\x00", "damaged"),
        (b"GIF89a", "damaged"),
        (b"BM", "damaged"),
        (saved(picture(), "TIFF")[:-50], "damaged"),
        (saved(picture().convert("P"), "GIF")[:-50], "damaged"),
        (saved(Image.fromarray(SAMPLES.astype(np.int32)), "TIFF"), "numbers of 32 bits"),
        (saved(Image.fromarray(SAMPLES.astype(np.float32)), "TIFF"), "numbers of 32 bits"),
    ],
)
def test_the_reason_is_told(encoded, reason):
    for read in (read_pixels, decodable):
        with pytest.raises(ValueError, match=reason):
            read(encoded)


def huge_tiff():
    encoded = bytearray(saved(picture(), "TIFF"))
    (start,) = struct.unpack_from("<I", encoded, 4)
    (num_tags,) = struct.unpack_from("<H", encoded, start)
    for place in range(start + 2, start + 2 + 12 * num_tags, 12):
        if struct.unpack_from("<H", encoded, place)[0] in (256, 257):
            struct.pack_into("<HII", encoded, place + 2, 4, 1, 50_000)
    return bytes(encoded)


def huge(kind, place, form):
    encoded = bytearray(saved(picture().convert("P"), kind))
    struct.pack_into(form, encoded, place, 50_000, 50_000)
    return bytes(encoded)


@pytest.mark.parametrize(
    "encoded", [huge_tiff(), huge("GIF", 6, "<HH"), huge("BMP", 18, "<ii")], ids=["tiff", "gif", "bmp"]
)
def test_a_huge_picture_is_refused_before_it_is_decoded(encoded):
    with pytest.raises(ValueError, match=r"more than 200,000,000 pixels \(50,000 x 50,000\)"):
        read_pixels(encoded)


def test_pillow_reads_its_own_orientation():
    """The hand-made statement of orientations against Pillow's."""
    for orientation in range(1, 9):
        encoded = saved(picture(), "TIFF", tiffinfo={ORIENTATION: orientation})
        np.testing.assert_array_equal(shown_by_pillow(encoded), turned(np.asarray(picture()), orientation))
        assert Image.open(io.BytesIO(encoded)).getexif()[ORIENTATION] == orientation
