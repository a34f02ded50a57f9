"""What a JPEG, PNG or BMP shows, against Pillow, against the formats' own definitions, and by hand."""

import io
import itertools

import numpy as np
import pytest
import tensorflow as tf
from image_files import chunk, oriented, picture, png, saved, segment, shown_by_pillow, with_segments
from PIL import Image

from bitkeras.data.decoding import MAX_PIXELS, decode_image, decode_images
from bitkeras.data.image_bytes import is_decodable, is_plain, read_head

# TensorFlow's decoder uses the fast inverse cosine transform, Pillow's the accurate one.
JPEG_TOLERANCE = 4


def decode(encoded, **options):
    return decode_image(tf.constant(encoded), **options).numpy()


def takes_the_short_way(encoded):
    return bool(is_plain(read_head(tf.constant(encoded))))


def assert_shown(encoded, *, within=0):
    shown, expected = decode(encoded), shown_by_pillow(encoded)
    assert shown.dtype == np.uint8 and shown.shape == expected.shape
    np.testing.assert_allclose(shown.astype(int), expected.astype(int), atol=within)
    np.testing.assert_array_equal(shown, decode(encoded, thorough=True))


JPEGS = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "progressive": {"progressive": True},
    "optimized": {"optimize": True},
    "restarts": {"restart_marker_rows": 1},
    "RGB": {"keep_rgb": True},
    "profile": {"icc_profile": bytes(3000)},
    "resolution": {"dpi": (72, 72)},
}


@pytest.mark.parametrize("kind", JPEGS)
def test_jpeg(kind):
    encoded = saved(picture(), "JPEG", quality=90, **JPEGS[kind])
    assert_shown(encoded, within=JPEG_TOLERANCE)
    assert takes_the_short_way(encoded) == (kind not in ("RGB", "profile"))


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_grey_jpeg_has_three_equal_channels(options):
    encoded = saved(picture().convert("L"), "JPEG", **options)
    assert_shown(encoded, within=JPEG_TOLERANCE)
    shown = decode(encoded)
    assert (shown == shown[..., :1]).all() and takes_the_short_way(encoded)


def test_several_pictures_in_a_jpeg_are_the_first():
    """As telephones write them; what stands behind is no damage."""
    encoded = saved(picture(), "MPO", save_all=True, append_images=[picture().rotate(180)])
    assert_shown(encoded, within=JPEG_TOLERANCE)
    assert_shown(saved(picture(), "JPEG") + b"camera maker's own data" * 100, within=JPEG_TOLERANCE)
    assert_shown(saved(picture(), "JPEG") + bytes(5000), within=JPEG_TOLERANCE)


# Where Exif's orientations put the corners of a picture with A B above C D (Exif 2.3, section 4.6.4).
TURNED = {1: "AB CD", 2: "BA DC", 3: "DC BA", 4: "CD AB", 5: "AC BD", 6: "CA DB", 7: "DB CA", 8: "BD AC"}
COLOURS = {"A": (255, 0, 0), "B": (0, 255, 0), "C": (0, 0, 255), "D": (255, 255, 0)}


@pytest.mark.parametrize("orientation", TURNED)
def test_exif_turns_the_picture(orientation):
    four = np.array([[COLOURS["A"], COLOURS["B"]], [COLOURS["C"], COLOURS["D"]]], np.uint8)
    blocks = Image.fromarray(four.repeat(24, axis=0).repeat(32, axis=1))
    expected = np.array([[COLOURS[letter] for letter in row] for row in TURNED[orientation].split()])
    for kind, big_endian in itertools.product(("JPEG", "PNG"), (False, True)):
        encoded = saved(blocks, kind, exif=oriented(orientation, big_endian=big_endian))
        shown = decode(encoded)
        assert shown.shape == ((64, 48, 3) if orientation >= 5 else (48, 64, 3))
        corners = shown[np.ix_([4, -5], [4, -5])].astype(int)
        np.testing.assert_allclose(corners, expected, atol=JPEG_TOLERANCE)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_as_pillow_does(orientation):
    exif = oriented(orientation)
    assert_shown(saved(picture(), "JPEG", exif=exif), within=JPEG_TOLERANCE)
    assert_shown(saved(picture(), "PNG", exif=exif))


def test_exif_is_found_where_other_programs_put_it():
    jpeg, exif = saved(picture(), "JPEG"), segment(0xE1, oriented(6))
    xmp = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\x00<x:xmpmeta/>")
    comment, photoshop = segment(0xFE, b"made by hand"), segment(0xED, b"Photoshop 3.0\x00" + bytes(60_000))
    for segments in ([exif], [xmp, exif], [comment, photoshop, exif], [photoshop, photoshop, xmp, exif, comment]):
        encoded = with_segments(jpeg, *segments)
        assert decode(encoded).shape == (60, 45, 3)
        assert_shown(encoded, within=JPEG_TOLERANCE)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_exif_does_not_know_is_none(orientation):
    for kind in ("JPEG", "PNG"):
        assert decode(saved(picture(), kind, exif=oriented(orientation))).shape == (45, 60, 3)


def test_damaged_exif_is_no_reason_to_refuse_a_picture():
    jpeg, exif = saved(picture(), "JPEG"), oriented(6)
    plain = decode(jpeg)
    rng = np.random.default_rng(0)
    blocks = [exif[:length] for length in range(6, len(exif), 3)]
    blocks += [exif[:6] + rng.bytes(40) for _ in range(10)] + [exif[:10] + b"\xff" * 4 + exif[14:]]
    for block in blocks:
        shown = decode(with_segments(jpeg, segment(0xE1, block)))
        assert sorted(shown.shape) == sorted(plain.shape)


def test_cmyk_as_adobe_writes_it():
    encoded = saved(picture().convert("CMYK"), "JPEG", quality=95)
    assert b"Adobe" in encoded
    # Errors of four channels are multiplied at the edge of the disc; elsewhere there are hardly any.
    assert_shown(encoded, within=16)
    assert np.abs(decode(encoded).astype(int) - np.asarray(picture())).mean() < 2


def test_ycck_as_adobe_writes_it():
    """The same file said to be YCCK: Pillow and TensorFlow must take its numbers for the same colours."""
    encoded = bytearray(saved(picture().convert("CMYK"), "JPEG", quality=95))
    place = encoded.index(b"Adobe") + 11
    assert encoded[place] == 0
    encoded[place] = 2
    assert_shown(bytes(encoded), within=16)


def test_cmyk_without_adobes_mark_is_not_inverted():
    ink = np.broadcast_to(np.array([40, 200, 10, 30], np.uint8), (16, 16, 4))
    # Pillow inverts what it writes and marks it; without the mark the numbers mean what they say.
    encoded = saved(Image.fromarray(255 - ink, "CMYK"), "JPEG", quality=100, subsampling=0)
    start = encoded.index(b"\xff\xee")
    encoded = encoded[:start] + encoded[start + 16 :]
    expected = [(255 - 30) * (255 - amount) / 255 for amount in (40, 200, 10)]
    np.testing.assert_allclose(decode(encoded)[8, 8], expected, atol=3)


COLOUR_TYPES = {"grey": (0, 1), "RGB": (2, 3), "palette": (3, 1), "grey and alpha": (4, 2), "RGBA": (6, 4)}
DEPTHS = {"grey": (1, 2, 4, 8, 16), "RGB": (8, 16), "palette": (1, 2, 4, 8), "grey and alpha": (8, 16), "RGBA": (8, 16)}
PNGS = [(kind, bits, named) for kind in COLOUR_TYPES for bits in DEPTHS[kind] for named in (False, True)]


def on_white(colours, alpha):
    weight = alpha[..., np.newaxis] / 255
    return np.round(colours * weight + 255 * (1 - weight))


@pytest.mark.parametrize(("kind", "bits", "named"), PNGS)
def test_png_of_every_type_and_depth(kind, bits, named):
    """By the definitions of its specification (Pillow misreads some); `named`: transparency in a chunk of its own."""
    colour_type, channels = COLOUR_TYPES[kind]
    rng = np.random.default_rng(bits)
    samples = rng.integers(0, 2**bits, (9, 7, channels))
    # 16 bits are shown by the higher 8, fewer than 8 are spread over the full range.
    values = samples >> 8 if bits == 16 else samples * 255 // (2**bits - 1)
    alpha, chunks = np.full((9, 7), 255), chunk(b"gAMA", (45455).to_bytes(4, "big"))
    if kind == "palette":
        colours, transparencies = rng.integers(0, 256, (2**bits, 3)), rng.integers(0, 256, 2**bits)
        chunks += chunk(b"PLTE", colours.astype(np.uint8).tobytes())
        values = colours[samples[..., 0]]
        if named:
            alpha, chunks = transparencies[samples[..., 0]], chunks + chunk(b"tRNS", bytes(transparencies.tolist()))
    elif channels in (2, 4):
        values, alpha = values[..., :-1], values[..., -1]
    elif named:
        key = samples[4, 3]
        alpha = np.where((samples == key).all(axis=-1), 0, 255)
        chunks += chunk(b"tRNS", key.astype(">u2").tobytes())
    expected = on_white(np.broadcast_to(values, (9, 7, 3)), alpha)
    encoded = png(samples, bits=bits, colour_type=colour_type, chunks=chunks)
    np.testing.assert_array_equal(decode(encoded), expected)
    if not named and kind != "palette":
        # Without the chunk before its pixels it may take the short way.
        encoded = png(samples, bits=bits, colour_type=colour_type)
        assert takes_the_short_way(encoded) == (kind in ("grey", "RGB"))
        np.testing.assert_array_equal(decode(encoded), expected)


def test_png_by_pillow():
    image, transparent = picture(), picture()
    transparent.putalpha(Image.linear_gradient("L").resize(image.size))
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    for other in (image, image.convert("L"), image.convert("1"), palette, transparent, transparent.convert("LA")):
        assert_shown(saved(other, "PNG"))
    assert_shown(saved(palette, "PNG", transparency=3))
    assert_shown(saved(transparent, "PNG", exif=oriented(5), dpi=(300, 300)))


def test_the_full_range_of_16_bits_is_shown():
    samples = np.array([[[0], [255], [256], [32768], [65535]]])
    assert decode(png(samples, bits=16, colour_type=0))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_bmp_of_24_bits():
    encoded = saved(picture(), "BMP")
    assert_shown(encoded)
    assert takes_the_short_way(encoded)


@pytest.mark.parametrize("kind", ["P", "1", "RGBA", "L"])
def test_other_bmps_are_refused_and_left_to_pillow(kind):
    encoded = saved(picture().convert(kind), "BMP")
    assert not is_decodable(encoded)
    with pytest.raises(tf.errors.InvalidArgumentError, match="no JPEG, PNG or uncompressed BMP of 24 bits"):
        decode(encoded)


def test_the_ending_of_a_name_says_nothing():
    """Decoding sees bytes only; what they are is told by the first."""
    for encoded in (saved(picture(), kind) for kind in ("JPEG", "PNG", "BMP")):
        assert is_decodable(encoded)
    for encoded in (saved(picture(), "TIFF"), saved(picture(), "GIF"), b"", b"text", b"\x89PNG"):
        assert not is_decodable(encoded)


FILES = {
    "plain": saved(picture(), "JPEG"),
    "turned": saved(picture(), "JPEG", exif=oriented(6)),
    "png": saved(picture(31, 17), "PNG"),
    "transparent": saved(picture(20, 20).convert("LA"), "PNG"),
    "bmp": saved(picture(9, 8), "BMP"),
}


@pytest.mark.parametrize("names", [["plain", "png", "bmp"], list(FILES), ["turned"], ["png"] * 3])
def test_a_group_is_decoded_as_each_alone(names):
    for image, name in zip(decode_images([tf.constant(FILES[name]) for name in names]), names):
        np.testing.assert_array_equal(image, decode(FILES[name]))


def test_in_tf_data_as_eagerly():
    names = list(FILES)
    dataset = tf.data.Dataset.from_tensor_slices(list(FILES.values())).map(decode_image)
    assert dataset.element_spec == tf.TensorSpec([None, None, 3], tf.uint8)
    for image, name in zip(dataset, names):
        np.testing.assert_array_equal(image, decode(FILES[name]))
    groups = tf.data.Dataset.from_tensors(list(FILES.values())).map(lambda files: decode_images(tf.unstack(files)))
    for image, name in zip(next(iter(groups)), names):
        np.testing.assert_array_equal(image, decode(FILES[name]))


def test_the_fallback_is_called_for_other_files_only():
    called = []

    def fallback(encoded):
        called.append(encoded)
        return np.full((2, 3, 3), 7, np.uint8)

    files = [*FILES.values(), b"something else"]
    dataset = tf.data.Dataset.from_tensors(files).map(lambda files: decode_images(tf.unstack(files), fallback=fallback))
    *images, other = next(iter(dataset))
    assert called == [b"something else"]
    np.testing.assert_array_equal(other, np.full((2, 3, 3), 7))
    for image, name in zip(images, FILES):
        np.testing.assert_array_equal(image, decode(FILES[name]))


def test_there_is_no_python_in_the_graph_without_a_fallback():
    function = tf.function(decode_image).get_concrete_function(tf.TensorSpec([], tf.string))
    ops = {node.op for node in function.graph.as_graph_def().node}
    for inner in function.graph.as_graph_def().library.function:
        ops.update(node.op for node in inner.node_def)
    assert "DecodeImage" in ops and "ExtractJpegShape" in ops
    assert not [op for op in ops if "PyFunc" in op]


# Missing data. libjpeg fills it with grey and returns as if nothing had happened.


def cut_in_the_middle(encoded, inserted=b""):
    start = encoded.rindex(b"\xff\xda") + 14
    middle = (start + len(encoded)) // 2
    return encoded[:middle] + inserted


TEXTURED = Image.fromarray(
    (np.asarray(picture(128, 96)) + np.random.default_rng(0).integers(-20, 20, (96, 128, 3)))
    .clip(0, 255)
    .astype(np.uint8)
)


@pytest.mark.parametrize(
    "inserted", [b"\xff\xd9", b"\xff\xe5\x00\x04ab\xff\xd9", b"\xff\xd0"], ids=["end", "note", "restart"]
)
@pytest.mark.parametrize("thorough", [False, True])
def test_a_jpeg_that_ends_early_is_refused(inserted, thorough):
    for options in ({"subsampling": 0}, {"subsampling": 2}, {"exif": oriented(6)}):
        encoded = saved(TEXTURED, "JPEG", **options)
        # The rest of the file is there as well: its last bytes are those of a whole one.
        damaged = cut_in_the_middle(encoded, inserted) + encoded[-200:]
        assert damaged.endswith(b"\xff\xd9")
        filled = tf.io.decode_jpeg(damaged).numpy()
        assert (filled[-1, -1] == 128).all(), "TensorFlow has begun to see it by itself"
        with pytest.raises(tf.errors.InvalidArgumentError, match="a JPEG that lacks part of its data"):
            decode(damaged, thorough=thorough)


def test_cmyk_that_ends_early_is_refused():
    damaged = cut_in_the_middle(saved(TEXTURED.convert("CMYK"), "JPEG"), b"\xff\xd9")
    with pytest.raises(tf.errors.InvalidArgumentError, match="lacks part of its data"):
        decode(damaged)


def test_a_thorough_look_sees_what_is_missing_in_the_middle():
    restarts = saved(TEXTURED, "JPEG", restart_marker_rows=1)
    place = restarts.index(b"\xff\xd2")
    progressive = saved(TEXTURED, "JPEG", progressive=True)
    scan = progressive.index(b"\xff\xda") + 40
    for whole, damaged in (
        (restarts, restarts[: place - 120] + restarts[place:]),
        (progressive, progressive[:scan] + progressive[scan + 60 :]),
        (progressive, progressive[:-300] + b"\xff\xd9"),
    ):
        decode(whole, thorough=True)
        decode(damaged)
        with pytest.raises(tf.errors.InvalidArgumentError, match="lacks part of its data"):
            decode(damaged, thorough=True)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_rows": 1}])
def test_honest_grey_is_shown(options):
    grey = picture(128, 96)
    grey.paste((128, 128, 128), (0, 40, 128, 96))
    for image in (grey, Image.new("RGB", (40, 40), (128, 128, 128)), Image.new("L", (40, 40), 128)):
        encoded = saved(image, "JPEG", **options)
        assert (decode(encoded)[-1, -1] == 128).all()
        assert_shown(encoded, within=JPEG_TOLERANCE)


def test_bytes_too_many_before_the_end_are_no_damage():
    """Some cameras write them; libjpeg warns and shows the picture."""
    encoded = saved(TEXTURED, "JPEG")
    padded = encoded[:-2] + bytes(10) + b"\xff\xd9"
    np.testing.assert_array_equal(decode(padded, thorough=True), decode(encoded))


# Too large.


def png_of_size(width, height):
    header = b"".join(side.to_bytes(4, "big") for side in (width, height)) + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + saved(picture(), "PNG")[33:]


def jpeg_of_size(width, height, **options):
    encoded = bytearray(saved(picture(), "JPEG", **options))
    place = max(encoded.find(b"\xff\xc0\x00\x11"), encoded.find(b"\xff\xc2\x00\x11"))
    encoded[place + 5 : place + 9] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(encoded)


@pytest.mark.parametrize(
    "encoded",
    [
        png_of_size(50_000, 50_000),
        png_of_size(2**31 - 1, 2**31 - 1),
        png_of_size(2**32 - 1, 2**32 - 1),
        png_of_size(MAX_PIXELS + 1, 1),
        jpeg_of_size(50_000, 50_000),
        jpeg_of_size(50_000, 50_000, progressive=True),
        jpeg_of_size(50_000, 50_000, exif=oriented(6)),
    ],
    ids=["png", "png31", "png32", "flat png", "jpeg", "progressive", "turned"],
)
def test_a_huge_picture_is_refused_before_it_is_decoded(encoded):
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 200,000,000 pixels"):
        decode(encoded)


@pytest.mark.slow
def test_a_photograph_of_12000_pixels_is_decoded():
    large = Image.new("L", (12_000, 12_000), 200)
    for kind in ("PNG", "JPEG"):
        shown = decode(saved(large, kind))
        assert shown.shape == (12_000, 12_000, 3) and (shown == 200).all()


@pytest.mark.parametrize("encoded", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"no image at all", bytes(500)])
def test_what_is_no_image_raises(encoded):
    for thorough in (False, True):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode(encoded, thorough=thorough)


@pytest.mark.real_data
def test_real_photographs_are_whole_and_shown_as_pillow_does(real_ham10000):
    for path in sorted(real_ham10000.rglob("*.jpg"))[:100]:
        assert_shown(path.read_bytes(), within=6)


def test_pillow_agrees_with_itself():
    """The reference turns and blends: it would not notice a mistake that it shares."""
    encoded = saved(picture(), "PNG", exif=oriented(3))
    upright = np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))
    np.testing.assert_array_equal(shown_by_pillow(encoded), upright[::-1, ::-1])
