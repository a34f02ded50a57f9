"""Caches give the same pixels, say first what they take, and take nothing that is not there."""

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from bitkeras.data import cache, read_source
from bitkeras.data.augment import make_policy
from bitkeras.data.batches import labelled_batches, view_batches
from bitkeras.data.disk_cache import DiskCache, bmp, other_caches
from bitkeras.data.pictures import Shrinking
from bitkeras.errors import UserError

pytestmark = pytest.mark.usefixtures("small_groups")
SIZE = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve images: JPEG of which some are large enough to be shrunk, PNG, and TIFF of 16 bits, which is converted."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(12):
        (root / "ab"[number % 2]).mkdir(exist_ok=True)
        path = root / "ab"[number % 2] / f"{number:02}"
        side = 30 if number % 4 else 160
        pixels = rng.integers(0, 256, (side, side + 7, 3), dtype=np.uint8)
        if number % 3 == 0:
            Image.fromarray(pixels).save(path.with_suffix(".jpg"), quality=90)
        elif number % 3 == 1:
            Image.fromarray(pixels).save(path.with_suffix(".png"))
        else:
            Image.fromarray(rng.integers(0, 2**16, (side, side), dtype=np.uint16)).save(path.with_suffix(".tif"))
    return root


@pytest.fixture
def source(folder):
    return read_source("image_folder", folder)


INDICES = np.array([11, 0, 3, 7, 6, 4, 9, 8])


def read(kind, source, tmp_path, *, shrinking, told=None):
    say = (lambda line: None) if told is None else told.append
    if kind == "memory":
        return cache.read_from_memory(source, INDICES, say=say)
    return cache.read_from_disk(source, INDICES, tmp_path / "cache", shrinking=shrinking, say=say)


def view_epochs(source, read=None):
    batches = view_batches(source, INDICES, policy="simsiam", image_size=SIZE, batch_size=4, seed=3, read=read)
    return [{name: value.numpy() for name, value in batch.items()} for batch in batches.take(4)]


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_views_are_the_same_to_the_bit_in_two_epochs(kind, source, tmp_path):
    shrinking = make_policy("simsiam", image_size=SIZE).shrinking
    expected = view_epochs(source)
    for _ in range(2):
        # The second time from what is there, as after a restart.
        for one, other in zip(view_epochs(source, read(kind, source, tmp_path, shrinking=shrinking)), expected):
            for name in ("index", "views_a", "views_b"):
                np.testing.assert_array_equal(one[name], other[name])
    assert not np.array_equal(expected[0]["views_a"], expected[2]["views_a"])


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_single_crops_are_the_same_but_for_rounding(kind, source, tmp_path):
    """Of one window that part alone is decoded, and the cache on disk has the whole image."""
    given = {"crop_area": (0.3, 1.0), "image_size": SIZE, "batch_size": 4, "seed": 3}
    expected = next(iter(labelled_batches(source, INDICES, **given)))
    kept = read(kind, source, tmp_path, shrinking=Shrinking(0.3, SIZE))
    found = next(iter(labelled_batches(source, INDICES, **given, read=kept)))
    np.testing.assert_array_equal(found["labels"], expected["labels"])
    np.testing.assert_allclose(found["images"], expected["images"], atol=1e-5)


def test_what_it_takes_is_told_before_and_is_what_it_takes(source, tmp_path):
    told = []
    read("disk", source, tmp_path, shrinking=Shrinking(), told=told)
    (line,) = told
    assert re.fullmatch(r"--cache=disk: 8 decoded images in .* take 1 MB of disk of the [\d,]+ MB available", line)
    (place,) = (tmp_path / "cache").iterdir()
    num_bytes = sum(path.stat().st_size for path in place.glob("*.bmp"))
    assert num_bytes == cache._decoded_bytes(source, INDICES, Shrinking()).sum()
    read("disk", source, tmp_path, shrinking=Shrinking(), told=told)
    assert told[1] == f"--cache=disk: 8 decoded images are in {place} from before"
    read("memory", source, tmp_path, shrinking=Shrinking(), told=told)
    assert told[2].startswith("--cache=memory: 8 files take 1 MB of memory")


def test_what_does_not_fit_is_refused_before_anything_is_taken(source, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(UserError, match=r"^--cache=disk would take 1 MB in .* and 1 MB are free there"):
        read("disk", source, tmp_path, shrinking=Shrinking())
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr(cache, "available_memory", lambda: 1000)
    with pytest.raises(UserError, match=r"^--cache=memory would take 1 MB and 1 MB of memory are available"):
        read("memory", source, tmp_path, shrinking=Shrinking())


def test_a_folder_that_cannot_be_written_is_told(source, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match=r"cannot be written .*; pass another --cache_dir, or --cache=none\.$"):
        read("disk", source, tmp_path, shrinking=Shrinking())


def test_a_cache_that_is_not_whole_is_made_anew(source, tmp_path):
    shrinking = make_policy("simsiam", image_size=SIZE).shrinking
    read("disk", source, tmp_path, shrinking=shrinking)
    (place,) = (tmp_path / "cache").iterdir()
    (place / "3.bmp").unlink()
    assert not DiskCache(place).is_complete
    found = view_epochs(source, read("disk", source, tmp_path, shrinking=shrinking))
    assert DiskCache(place).is_complete
    np.testing.assert_array_equal(found[1]["views_b"], view_epochs(source)[1]["views_b"])


def test_changed_images_make_a_new_cache_and_the_old_one_is_told(folder, tmp_path):
    copy = tmp_path / "images"
    shutil.copytree(folder, copy)
    source = read_source("image_folder", copy)
    read("disk", source, tmp_path, shrinking=Shrinking())
    (old,) = (tmp_path / "cache").iterdir()
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(Path(source.paths[INDICES[0]]), format="PNG")
    told = []
    read("disk", source, tmp_path, shrinking=Shrinking(), told=told)
    assert str(old) in told[0] and "delete it if not needed" in told[0]
    assert [path for path, _ in other_caches(tmp_path / "cache", besides=Path("nowhere"))] == sorted(
        (tmp_path / "cache").iterdir()
    )
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_two_processes_at_once_end_with_one_cache(tmp_path):
    """The slower one leaves what the faster one has made, and may be reading, alone."""
    images = [(np.full((2, 3, 3), shade, np.uint8), (2, 3), 1) for shade in (1, 2)]
    faster = tmp_path / "faster"
    DiskCache(faster).fill(images)
    inode, place = faster.stat().st_ino, DiskCache(tmp_path / "decoded-1")

    def while_another_is_faster():
        yield images[0]
        faster.rename(place.path)
        yield images[1]

    place.fill(while_another_is_faster())
    assert place.path.stat().st_ino == inode and place.is_complete
    assert [path.name for path in tmp_path.iterdir()] == ["decoded-1"]


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_a_bmp_is_what_pillow_reads(width, tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (3, width, 3), dtype=np.uint8)
    (tmp_path / "image.bmp").write_bytes(bmp(image))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "image.bmp")), image)
    np.testing.assert_array_equal(tf.io.decode_bmp(bmp(image)), image)


def test_images_in_memory_need_no_cache(source):
    held = source.take(np.arange(2))
    encoded = np.array([held.read(0), held.read(1)], dtype=object)
    held = dataclasses.replace(held, paths=None, encoded=encoded)
    with pytest.raises(UserError, match="are in memory as they are; leave --cache=memory out"):
        cache.read_from_memory(held, np.arange(2), say=print)


def test_images_that_are_converted_otherwise_make_a_new_cache(source, tmp_path):
    """As of DICOM under another window: the files are the same ones."""
    grey = [tf.io.encode_png(np.full((9, 9, 3), level, np.uint8)).numpy() for level in (10, 200)]
    found = []
    for level, window in zip(grey, ("40,400", "2000,4000")):
        shown = dataclasses.replace(source, converted=lambda _, level=level: level, conversion=f"window {window}")
        decoded = read("disk", shown, tmp_path, shrinking=Shrinking())(tf.constant([3], tf.int64))
        found.append(int(decoded.whole()[0][0, 0, 0]))
    assert found == [10, 200]
