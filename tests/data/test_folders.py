"""Folders of images, and the checks of image files that all readers share."""

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.data import DATASETS, read_source
from bitkeras.data.folders import read_image_folder, read_unlabelled_folder
from bitkeras.data.source import ImageSource, check_image_file, find_images, first_undecodable
from bitkeras.errors import UserError


def jpeg(seed=0, size=24):
    image = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return tf.io.encode_jpeg(image).numpy()


def png(seed=0):
    return tf.io.encode_png(np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)).numpy()


def bmp():
    """A 2x2 BMP written by hand: header, then rows of blue-green-red padded to 4 bytes."""
    header = b"BM" + (70).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    info = b"".join(n.to_bytes(4, "little") for n in (40, 2, 2)) + b"\x01\x00\x18\x00" + bytes(24)
    return header + info + bytes(range(16))


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def pets(tmp_path):
    put(tmp_path / "dog" / "b.jpg", jpeg(1))
    put(tmp_path / "dog" / "a.PNG", png(2))
    put(tmp_path / "cat" / "2021" / "may" / "x.JPEG", jpeg(3))
    put(tmp_path / "cat" / "notes.txt", b"not an image")
    put(tmp_path / ".cache" / "thumb.jpg", jpeg(4))
    return tmp_path


def test_class_folders(pets):
    source = read_image_folder(pets)
    assert source.class_names == ("cat", "dog")
    assert source.image_ids.tolist() == ["cat/2021/may/x.JPEG", "dog/a.PNG", "dog/b.jpg"]
    assert source.labels.tolist() == [0, 1, 1] and source.labels.dtype == np.int32
    assert source.summary() == "image_folder: 3 images; 2 classes (cat 1, dog 2)"
    assert source.location(1) == str(pets / "dog" / "a.PNG")
    assert source.read(1) == png(2)


def test_unlabelled_folder(pets):
    put(pets / "loose.jpg", jpeg(5))
    source = read_unlabelled_folder(pets)
    assert source.image_ids.tolist() == ["cat/2021/may/x.JPEG", "dog/a.PNG", "dog/b.jpg", "loose.jpg"]
    assert source.labels is None and source.class_names == ()
    assert "4 images; no labels" in source.summary()


def test_take_keeps_everything_aligned(pets):
    source = read_image_folder(pets).take([2, 0])
    assert source.image_ids.tolist() == ["dog/b.jpg", "cat/2021/may/x.JPEG"]
    assert source.labels.tolist() == [1, 0]
    assert source.location(0).endswith("b.jpg")
    assert source.class_names == ("cat", "dog") and source.groups is None


def test_long_class_list_is_cut_in_the_summary():
    names = tuple(f"c{i}" for i in range(300))
    source = ImageSource("many", np.array(["a"]), labels=np.array([0]), class_names=names)
    assert "300 classes" in source.summary() and len(source.summary()) < 300


def test_link_to_a_folder_above_is_walked_once(pets):
    (pets / "dog" / "up").symlink_to(pets)
    assert len(find_images(pets)) == 3


def test_linked_class_folder_is_read(pets, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    put(elsewhere / "c.jpg", jpeg())
    (pets / "bird").symlink_to(elsewhere)
    assert read_image_folder(pets).class_names == ("bird", "cat", "dog")


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"phantom"}))
def test_missing_and_empty_folder(name, tmp_path):
    with pytest.raises(UserError, match="absent does not exist"):
        read_source(name, tmp_path / "absent")
    with pytest.raises(UserError, match=str(tmp_path)):
        read_source(name, tmp_path)


def test_unknown_dataset_lists_the_known():
    with pytest.raises(UserError, match="'imagenet' is unknown; known are ham10000, .*cifar10, .*image_folder"):
        read_source("imagenet", ".")


def test_class_folder_errors(pets):
    with pytest.raises(UserError, match="has no sub-folders"):
        read_image_folder(pets / "dog")
    loose = put(pets / "loose.jpg", jpeg())
    with pytest.raises(UserError, match="loose.jpg lies beside the class folders"):
        read_image_folder(pets)
    loose.unlink()
    (pets / "bird").mkdir()
    with pytest.raises(UserError, match="class folder .*bird holds no image"):
        read_image_folder(pets)


def test_parts_are_not_taken_for_classes(tmp_path):
    for part in ("train", "test"):
        put(tmp_path / part / "dog" / "a.jpg", jpeg())
    with pytest.raises(UserError, match="are parts"):
        read_image_folder(tmp_path)


def with_thumbnail(encoded, thumbnail):
    """As cameras write it: a small JPEG, with an end marker of its own, inside an APP1 segment."""
    return encoded[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + encoded[2:]


GOOD = {
    "thumbnail.jpg": with_thumbnail(jpeg(), jpeg(1, size=8)),
    "plain.jpg": jpeg(),
    "plain.png": png(),
    "hand.bmp": bmp(),
    "wrong_ending.png": jpeg(),
    "padded.jpg": jpeg() + bytes(5000),
    "appended.jpg": jpeg() + b"camera maker's own data" * 100,
}
BAD = {
    "empty.jpg": (b"", "empty"),
    "page.jpg": (b"<html>404 not found</html>", "no JPEG, PNG, BMP or GIF"),
    "short.jpg": (jpeg()[:200], "cut short"),
    "almost.jpg": (jpeg()[:-40], "cut short"),
    "thumbnail.jpg": (with_thumbnail(jpeg(), jpeg(1, size=8))[:-40], "cut short"),
    "short.png": (png()[:-20], "cut short"),
    "zeros.jpg": (jpeg()[:300] + bytes(3000), "cut short"),
}


@pytest.mark.parametrize("name", GOOD)
def test_readable_files_pass(name, tmp_path):
    check_image_file(put(tmp_path / name, GOOD[name]))


@pytest.mark.parametrize("name", BAD)
def test_damaged_files_are_named(name, tmp_path):
    content, reason = BAD[name]
    path = put(tmp_path / name, content)
    with pytest.raises(UserError, match=reason) as caught:
        check_image_file(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and "function_node" not in str(caught.value)


def test_dangling_link_is_named(tmp_path):
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="gone.jpg cannot be used because it cannot be read"):
        read_unlabelled_folder(tmp_path)


def test_first_undecodable_finds_damage_in_the_middle(tmp_path):
    for i in range(4):
        put(tmp_path / f"{i}.png", png(i))
    assert first_undecodable(read_unlabelled_folder(tmp_path)) is None
    whole = png(2)
    put(tmp_path / "2.png", whole[:60] + bytes(40) + whole[100:])
    source = read_unlabelled_folder(tmp_path)
    where, reason = first_undecodable(source)
    assert where == str(tmp_path / "2.png")
    assert reason and "{{" not in reason and "\n" not in reason
    assert first_undecodable(source.take([0, 1, 3])) is None
    (tmp_path / "0.png").unlink()
    assert first_undecodable(source)[0] == str(tmp_path / "0.png")


def test_first_undecodable_names_a_held_image():
    encoded = np.array([png(), b"damaged"], dtype=object)
    source = ImageSource("held", np.array(["batch/0", "batch/1"]), encoded=encoded)
    assert first_undecodable(source)[0] == "batch/1"
