"""Folders of images."""

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.data import DATASETS, read_source
from bitkeras.data.folders import read_image_folder, read_unlabelled_folder
from bitkeras.data.source import ImageSource, find_images
from bitkeras.errors import UserError


def jpeg(seed=0, size=24):
    image = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return tf.io.encode_jpeg(image).numpy()


def png(seed=0):
    return tf.io.encode_png(np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)).numpy()


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


def test_the_parts_of_a_release_are_no_classes(tmp_path):
    put(tmp_path / "HAM10000_images_part_1" / "a.jpg", jpeg(1))
    put(tmp_path / "HAM10000_images_part_2" / "b.jpg", jpeg(2))
    put(tmp_path / "HAM10000_metadata.csv", b"lesion_id,image_id,dx")
    with pytest.raises(UserError, match=r"part_2\) are no classes.*HAM10000_metadata.csv.*--dataset=ham10000"):
        read_image_folder(tmp_path)


def test_photographs_sorted_by_diagnosis_may_keep_the_table_beside_them(tmp_path):
    put(tmp_path / "mel" / "a.jpg", jpeg(1))
    put(tmp_path / "NV" / "b.jpg", jpeg(2))
    put(tmp_path / "HAM10000_metadata.csv", b"lesion_id,image_id,dx")
    assert read_image_folder(tmp_path).class_names == ("NV", "mel")


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
