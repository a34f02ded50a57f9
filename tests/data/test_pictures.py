"""What is decoded of an image against the whole of it, written by libjpeg in all its ways."""

import functools
import io
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from reference import augment_reference as reference

from bitkeras.data.augment_pixels import crop_and_resize
from bitkeras.data.decoding import decode_image
from bitkeras.data.image_bytes import plain_jpeg_sizes, read_head
from bitkeras.data.pictures import DecodedPictures, EncodedPictures, Shrinking

AREA = (0.2, 1.0)


def photograph(height, width, seed=0):
    """Smooth colours, an edge, and the noise of a sensor: uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / height
    waves = [np.sin(rng.uniform(2, 40) * x + rng.uniform(2, 40) * y + phase) for phase in rng.uniform(0, 6, 3)]
    image = 128 + 50 * np.stack(waves, axis=-1) + 40 * (x > y)[..., None] + rng.normal(0, 3, (height, width, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def encode(image, kind="JPEG", **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def exif_rotated(image):
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(image, exif=exif)


def cmyk(image):
    file = io.BytesIO()
    Image.fromarray(image).convert("CMYK").save(file, "JPEG")
    return file.getvalue()


JPEGS = {
    "4:2:0": {"subsampling": 2},
    "4:2:2": {"subsampling": 1},
    "4:4:4": {"subsampling": 0},
    "fine": {"quality": 98, "optimize": True},
    "progressive": {"progressive": True},
}


def sizes_of(*files):
    is_plain, sizes = plain_jpeg_sizes(tf.stack([read_head(tf.constant(file)) for file in files]))
    return is_plain.numpy().tolist(), sizes.numpy().tolist()


def test_the_size_of_a_plain_jpeg_is_read_from_its_head():
    shapes = [(1, 1), (31, 47), (300, 7), (450, 600), (513, 1025)]
    for (height, width), options in itertools.product(shapes, JPEGS.values()):
        image = photograph(height, width)
        files = encode(image, **options), encode(image[..., 0], **options), tf.io.encode_jpeg(image).numpy()
        assert sizes_of(*files) == ([True] * 3, [[height, width]] * 3)


def test_other_files_are_not_taken_for_plain_jpegs():
    image = photograph(30, 40)
    others = [encode(image, "PNG"), encode(image, "BMP"), exif_rotated(image), cmyk(image), b"", b"\xff\xd8\xff"]
    others += [encode(image)[:100], b"\x00" * 500]
    assert sizes_of(*others)[0] == [False] * len(others)


def windows_in(sizes, num_views, seed=0):
    """Random windows, those of the corners among them: int32 [V, N, 4]."""
    rng = np.random.default_rng(seed)
    windows = [[reference.crop_window(*size, (0.05, 1.0), rng) for size in sizes] for _ in range(num_views)]
    for place, (height, width) in enumerate(sizes[:2]):
        side = min(height, width) // 2
        windows[0][place] = ((0, 0), (height - side, width - side))[place] + (side, side)
    return np.array(windows, np.int32)


@functools.cache
def compiled_parts(shrinking):
    """`parts` inside a graph, as tf.data calls it; traced once for each number of files and views."""

    @tf.function
    def parts(files, windows):
        return tuple(EncodedPictures(tf.unstack(files)).parts(lambda *_: windows, shrinking))

    return parts


def parts_of(files, windows, shrinking):
    """([uint8 [h, w, 3]], float32 [V, N, 4])."""
    images, inside = compiled_parts(shrinking)(tf.constant(files), tf.constant(windows))
    return [image.numpy() for image in images], inside.numpy()


UNSHRUNK = Shrinking()


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("num_views", [1, 2])
def test_a_window_has_the_pixels_it_has_in_the_whole_image(kind, num_views):
    """To the bit, in spite of libjpeg's smoothing of colours across the border."""
    sizes = [(33, 47), (120, 161), (16, 16), (97, 64), (1, 1), (64, 400)]
    files = [encode(photograph(*size, seed), **JPEGS[kind]) for seed, size in enumerate(sizes)]
    whole = [tf.io.decode_image(file, channels=3).numpy() for file in files]
    for seed in range(4):
        windows = windows_in(sizes, num_views, seed)
        images, inside = parts_of(files, windows, UNSHRUNK)
        for view, n in np.ndindex(num_views, len(sizes)):
            (top, left, height, width), at = windows[view, n], inside[view, n].astype(int)
            assert tuple(at[2:]) == (height, width)
            np.testing.assert_array_equal(
                images[n][at[0] : at[0] + height, at[1] : at[1] + width],
                whole[n][top : top + height, left : left + width],
            )
            # Of one window no more is decoded than its surroundings.
            limit = (height + 4, width + 4) if num_views == 1 else sizes[n]
            assert images[n].shape[0] <= limit[0] and images[n].shape[1] <= limit[1]


def test_what_is_no_plain_jpeg_is_decoded_whole_and_changes_nothing_beside_it():
    image = photograph(40, 60)
    files = [encode(image), encode(image, "PNG"), exif_rotated(image), encode(image[..., 0]), encode(image, "BMP")]
    # The third is turned by a quarter.
    windows = windows_in([(40, 60), (40, 60), (60, 40), (40, 60), (40, 60)], 1)

    # sqrt(0.2 * 3/4 * 40 * 60) = 19 px of the smallest window are 1.5 times a view of 6 px, twice over.
    for shrinking in (UNSHRUNK, Shrinking(0.2, 6)):
        together, inside = parts_of(files, windows, shrinking)
        for n, file in enumerate(files):
            (alone,), place = parts_of([file], windows[:, n : n + 1], shrinking)
            np.testing.assert_array_equal(together[n], alone)
            np.testing.assert_array_equal(inside[:, n : n + 1], place)
        for n in (1, 2, 4):
            np.testing.assert_array_equal(together[n], decode_image(tf.constant(files[n])))
            np.testing.assert_array_equal(inside[:, n], windows[:, n])
        others, _ = parts_of([files[1], files[4]], windows[:, [1, 4]], shrinking)
        np.testing.assert_array_equal(others[1], together[4])


@pytest.mark.parametrize(
    ("size", "image_size", "area", "ratio"),
    [
        # The smallest window of a released photograph has sqrt(0.2 * 600 * 450 * 3/4) = 201 px.
        ((450, 600), 224, 0.2, 1),
        ((450, 600), 67, 0.2, 2),
        ((450, 600), 68, 0.2, 1),
        ((450, 600), 33, 0.2, 4),
        ((450, 600), 16, 0.2, 8),
        ((450, 600), 8, 0.2, 8),
        ((150, 200), 64, 0.2, 1),
        ((32, 32), 32, 0.2, 1),
        # A narrow strip: its windows are no wider than the strip.
        ((1000, 96), 32, 0.2, 2),
        ((1000, 95), 32, 0.2, 1),
        ((2250, 3000), 224, 0.05, 1),
    ],
)
def test_ratios_by_hand(size, image_size, area, ratio):
    assert int(Shrinking(area, image_size).ratios(tf.constant([size]))[0]) == ratio


def test_no_window_loses_resolution_by_the_ratio():
    rng = np.random.default_rng(0)
    sizes = rng.integers(20, 900, (60, 2))
    for image_size in (16, 48):
        ratios = Shrinking(AREA[0], image_size).ratios(tf.constant(sizes, tf.int32)).numpy()
        assert len(set(ratios)) > 2
        for size, ratio in zip(sizes, ratios):
            sides = [min(reference.crop_window(*size, AREA, rng)[2:]) for _ in range(200)]
            # Half a pixel: windows have whole sides.
            assert ratio == 1 or min(sides) + 0.5 >= 1.5 * ratio * image_size


@pytest.mark.parametrize(("image_size", "ratio"), [(64, 2), (33, 4), (16, 8)])
@pytest.mark.parametrize("num_views", [1, 2])
def test_shrunk_decoding_moves_views_by_about_a_level(image_size, ratio, num_views):
    size, num_images = (450, 600), 6
    files = [encode(photograph(*size, seed), quality=90) for seed in range(num_images)]
    rng = np.random.default_rng(1)
    windows = np.array([[reference.crop_window(*size, AREA, rng) for _ in files] for _ in range(num_views)], np.int32)
    images, inside = parts_of(files, windows, Shrinking(AREA[0], image_size))
    np.testing.assert_array_equal(inside[..., 2:] * ratio, windows[..., 2:])
    views = crop_and_resize([tf.constant(image) for image in images], tf.constant(inside), image_size=image_size)
    for view, n in np.ndindex(num_views, num_images):
        whole = tf.io.decode_jpeg(files[n]).numpy()
        expected = reference.crop(whole, windows[view, n], image_size)
        differences = np.abs(np.transpose(views[view, n], (2, 0, 1)) - expected)
        assert differences.mean() < 1.3 and np.quantile(differences, 0.999) < 8 and differences.max() < 20


def test_borders_between_pixels_are_pillows():
    rng = np.random.default_rng(2)
    images = [photograph(*size) for size in ((40, 60), (64, 33), (9, 120))]
    windows = []
    for image in images:
        corner = rng.uniform(0, 0.4, 2) * image.shape[:2]
        windows.append([*corner, *(rng.uniform(0.2, 0.55, 2) * image.shape[:2])])
    windows = np.array([windows], np.float32)
    crops = crop_and_resize([tf.constant(image) for image in images], tf.constant(windows), image_size=24)
    for n, image in enumerate(images):
        top, left, height, width = windows[0, n].astype(float)
        first, last = np.floor([top, left]).astype(int), np.ceil([top + height, left + width]).astype(int)
        part = image[first[0] : last[0], first[1] : last[1]].astype(np.float32)
        box = (left - first[1], top - first[0], left - first[1] + width, top - first[0] + height)
        planes = [Image.fromarray(part[..., c]).resize((24, 24), Image.BILINEAR, box=box) for c in range(3)]
        np.testing.assert_allclose(np.transpose(crops[0, n], (2, 0, 1)), np.stack(planes, axis=-1), atol=0.02)


def test_decoded_pictures_give_the_same_parts():
    files = [encode(photograph(300, 400, 1)), encode(photograph(40, 60), "PNG"), encode(photograph(90, 120))]
    windows, shrinking = windows_in([(300, 400), (40, 60), (90, 120)], 2), Shrinking(AREA[0], 16)
    decoded = tf.function(lambda: vars(EncodedPictures([tf.constant(file) for file in files]).decoded(shrinking)))()
    assert decoded["sizes"].numpy().tolist() == [[300, 400], [40, 60], [90, 120]]
    assert decoded["ratios"].numpy().tolist() == [4, 1, 1]
    images, inside = parts_of(files, windows, shrinking)
    kept = DecodedPictures(**decoded).parts(lambda *_: tf.constant(windows), shrinking)
    np.testing.assert_array_equal(kept.windows, inside)
    for one, other in zip(kept.images, images):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("num_views", [1, 2])
def test_a_jpeg_that_lacks_data_is_refused_where_a_window_shows_it(num_views):
    """libjpeg fills what is missing with grey, in a file that ends as it should."""
    file = encode(photograph(200, 300))
    lacking = file[: len(file) // 2] + b"\xff\xd9"
    above, below = ((0, 10, 40, 60), (150, 10, 40, 60))
    files = [encode(photograph(80, 80)), lacking]
    for window, is_seen in ((above, num_views == 2), (below, True)):
        windows = np.array([[(0, 0, 20, 20), window]] * num_views, np.int32)
        if is_seen:
            with pytest.raises(tf.errors.InvalidArgumentError, match="lacks part of its data"):
                parts_of(files, windows, UNSHRUNK)
        else:
            # Two columns more than the window on either side.
            images, _ = parts_of(files, windows, UNSHRUNK)
            np.testing.assert_array_equal(images[1][:40, 2:62], tf.io.decode_jpeg(file)[:40, 10:70])


def test_an_honest_grey_corner_is_no_lack_of_data():
    image = np.full((64, 64, 3), 128, np.uint8)
    windows = np.array([[(10, 10, 30, 30)]], np.int32)
    images, _ = parts_of([encode(image, subsampling=0)], windows, UNSHRUNK)
    np.testing.assert_array_equal(images[0], np.full(images[0].shape, 128, np.uint8))
