"""Damaged files of every kind thrown at everything that decodes: no crash, no hang, no picture that is mostly fill."""

import functools
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from image_files import oriented, saved, tiff
from PIL import Image

from bitkeras.data.conversion import read_pixels
from bitkeras.data.decoding import decode_image

ROOT = Path(__file__).parents[2]


def textured(width=24, height=16):
    """Without a pixel of the grey that libjpeg fills in."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width] / np.reshape([height, width], [2, 1, 1])
    ground = np.stack([170 + 40 * x, 60 + 40 * y, 200 - 40 * x], axis=-1) + rng.integers(-15, 15, (height, width, 3))
    return Image.fromarray(ground.astype(np.uint8))


IMAGE = textured()
FILES = {
    "jpeg": saved(IMAGE, "JPEG"),
    "progressive": saved(IMAGE, "JPEG", progressive=True),
    "restarts": saved(IMAGE, "JPEG", restart_marker_rows=1),
    "turned": saved(IMAGE, "JPEG", exif=oriented(6)),
    "grey jpeg": saved(IMAGE.convert("L"), "JPEG"),
    "cmyk": saved(IMAGE.convert("CMYK"), "JPEG"),
    "png": saved(IMAGE, "PNG"),
    "palette": saved(IMAGE.quantize(8), "PNG", transparency=0),
    "bmp": saved(IMAGE, "BMP"),
    "bmp of 8 bits": saved(IMAGE.quantize(8), "BMP"),
    "gif": saved(IMAGE.quantize(8), "GIF"),
    "tiff": saved(IMAGE, "TIFF"),
    "tiff of 16 bits": tiff(np.random.default_rng(0).integers(0, 2**16, (16, 24)), bits=16),
    "lzw": saved(IMAGE, "TIFF", compression="tiff_lzw"),
    "deflate": saved(IMAGE, "TIFF", compression="tiff_adobe_deflate"),
    "jpeg in tiff": saved(IMAGE, "TIFF", compression="jpeg"),
    "fax": saved(IMAGE.convert("1"), "TIFF", compression="group4"),
}
IN_THE_GRAPH = ("jpeg", "progressive", "restarts", "turned", "grey jpeg", "cmyk", "png", "palette", "bmp")


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def looked_at(encoded):
    return decode_image(encoded, fallback=read_pixels, thorough=True)


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def trained_on(encoded):
    return decode_image(encoded, fallback=read_pixels)


@tf.function(input_signature=[tf.TensorSpec([], tf.string)])
def served(encoded):
    return decode_image(encoded)


def shown(decode, encoded):
    """The picture, or None where it is refused as it should be."""
    try:
        return decode(tf.constant(encoded)).numpy()
    except tf.errors.InvalidArgumentError:
        return None


def cut(encoded):
    return [encoded[:length] for length in range(len(encoded))]


def cut_and_ended(encoded):
    """The end mark of a JPEG put back, as some repair programs do."""
    return [encoded[:length] + b"\xff\xd9" for length in range(len(encoded))]


def emptied(encoded):
    """Zeros from somewhere on, as a file system leaves a file whose blocks were never written."""
    return [encoded[:length] + bytes(len(encoded) - length) for length in range(len(encoded))]


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in ("jpeg", "png", "lzw") else pytest.mark.slow) for kind in FILES]
)
def test_a_file_cut_at_any_length_is_refused_or_shown_whole(kind):
    encoded = FILES[kind]
    whole = shown(looked_at, encoded)
    for decode in (looked_at, trained_on, *([served] if kind in IN_THE_GRAPH else [])):
        num_refused = 0
        for damaged in cut(encoded):
            image = shown(decode, damaged)
            num_refused += image is None
            if image is not None:
                np.testing.assert_array_equal(image, whole)
        # Only a few bytes at the end do not belong to the pixels.
        assert num_refused >= 0.9 * len(cut(encoded))


def share_of_fill(image):
    """Of the grey that libjpeg fills in."""
    return (image == 128).all(axis=-1).mean() if image.size else 1.0


@functools.lru_cache
def share_before(kind):
    return share_of_fill(shown(looked_at, FILES[kind]))


def assert_not_filled(kind, decode, damaged):
    image = shown(decode, damaged)
    if image is None:
        return
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] == 3 and image.size
    # Only a thorough look sees what is missing before the end.
    if decode is looked_at or kind not in ("restarts", "progressive"):
        # Of the block of 16 x 16 px in which the data ends libjpeg has had a part.
        assert share_of_fill(image) <= share_before(kind) + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("damage", [cut_and_ended, emptied])
@pytest.mark.parametrize("kind", IN_THE_GRAPH)
def test_no_picture_is_filled_with_grey(kind, damage):
    for damaged in damage(FILES[kind]):
        for decode in (looked_at, served):
            assert_not_filled(kind, decode, damaged)


@pytest.mark.parametrize("damage", [cut_and_ended, emptied])
def test_no_jpeg_in_a_tiff_is_filled_with_grey(damage):
    """The tables and tags behind the strip stay whole."""
    encoded = FILES["jpeg in tiff"]
    # Behind the header of 8 bytes lies the strip.
    length = encoded.index(b"\xff\xd9") - 6
    for strip in damage(encoded[8 : 8 + length]):
        assert_not_filled(
            "jpeg in tiff", looked_at, encoded[:8] + strip[:length].ljust(length, b"\0") + encoded[8 + length :]
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_changed_bytes_do_no_harm(kind):
    """Three hundred damaged files: each is refused, or gives a picture that is not fill."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(FILES[kind])
        # One byte, or several beside each other.
        place, width = int(rng.integers(len(damaged))), int(rng.choice([1, 1, 4, 40]))
        damaged[place : place + width] = rng.bytes(len(damaged[place : place + width]))
        for decode in (looked_at, served):
            assert_not_filled(kind, decode, bytes(damaged))


@pytest.mark.parametrize("kind", FILES)
def test_a_wrong_ending_or_beginning_is_no_crash(kind):
    encoded = FILES[kind]
    for damaged in (encoded[1:], encoded[::-1], bytes(len(encoded)), b"\xff" * len(encoded), encoded[:3] * 200):
        for decode in (looked_at, served):
            image = shown(decode, damaged)
            assert image is None or image.size


@pytest.mark.slow
def test_headers_of_huge_pictures_take_no_memory():
    """In a process of its own, whose largest size is then known."""
    code = """
import resource, sys
import tensorflow as tf
sys.path.insert(0, "tests/data")
from test_conversion import huge, huge_tiff
from test_decoding import jpeg_of_size, png_of_size
from bitkeras.data.conversion import read_pixels
from bitkeras.data.decoding import decode_image
from image_files import picture, saved

decode = tf.function(decode_image)
decode(tf.constant(saved(picture(), "JPEG")), fallback=read_pixels, thorough=True)
decode(tf.constant(saved(picture(), "JPEG")), fallback=read_pixels, thorough=False)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
sizes = (50_000, 50_000)
files = [png_of_size(*sizes), jpeg_of_size(*sizes), jpeg_of_size(*sizes, progressive=True), huge_tiff()]
files += [huge("GIF", 6, "<HH"), huge("BMP", 18, "<ii")]
for encoded in files:
    for thorough in (False, True):
        try:
            decode(tf.constant(encoded), fallback=read_pixels, thorough=thorough)
        except tf.errors.InvalidArgumentError as error:
            assert "200,000,000 pixels" in error.message, error.message
        else:
            raise AssertionError("it was decoded")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) < 200


@pytest.mark.parametrize("form", ["jpeg", "png"])
def test_millions_of_tiny_parts_are_no_hang(form):
    parts = b"\xff\xe5\x00\x02" * 500_000 if form == "jpeg" else (bytes(4) + b"teXt" + bytes(4)) * 400_000
    place = {"jpeg": 2, "png": 33}[form]
    encoded = FILES[form][:place] + parts + FILES[form][place:]
    before = resource.getrusage(resource.RUSAGE_SELF)
    shown(served, encoded)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_utime - before.ru_utime < 10
