"""MedMNIST files as `numpy.savez_compressed` writes them, which is how the release was made."""

import io
import types

import numpy as np
import pytest
from PIL import Image

from bitkeras.data import byte_ranges
from bitkeras.data.medmnist import CLASS_NAMES, read_medmnist
from bitkeras.errors import UserError

SIZES = {"train": 7, "val": 2, "test": 3}


def arrays(*, size=28, colour=True, num_labels=5, more=None):
    rng = np.random.default_rng(0)
    shape = (size, size, 3) if colour else (size, size)
    held = {}
    for part, number in SIZES.items():
        held[f"{part}_images"] = rng.integers(0, 256, (number, *shape), dtype=np.uint8)
        held[f"{part}_labels"] = rng.integers(0, num_labels, (number, 1), dtype=np.uint8)
    return {**held, **(more or {})}


def write(path, held, *, save=np.savez_compressed):
    save(path, **held)
    return path


def pixels(source, index):
    """By Pillow, not by what trains."""
    return np.asarray(Image.open(io.BytesIO(source.read(index))))


@pytest.mark.parametrize("size, colour", [(28, True), (28, False), (64, False), (224, True)])
@pytest.mark.parametrize("save", [np.savez_compressed, np.savez])
def test_every_pixel_and_label_arrives(size, colour, save, tmp_path):
    held = arrays(size=size, colour=colour)
    source = read_medmnist(write(tmp_path / "somemnist.npz", held, save=save))
    assert len(source) == 12 and source.name == "medmnist"
    everything = np.concatenate([held[f"{part}_images"] for part in SIZES])
    for index in (11, 0, 6, 7, 3, 9):
        np.testing.assert_array_equal(pixels(source, index), everything[index])
    assert source.labels.tolist() == np.concatenate([held[f"{part}_labels"] for part in SIZES])[:, 0].tolist()
    assert source.labels.dtype == np.int32


def test_the_test_part_is_the_released_test(tmp_path):
    source = read_medmnist(write(tmp_path / "somemnist.npz", arrays()))
    assert source.official_test.tolist() == [False] * 9 + [True] * 3
    assert source.facts["released_part"].tolist() == ["train"] * 7 + ["val"] * 2 + ["test"] * 3
    assert source.image_ids[[0, 8, 11]].tolist() == ["train/000000", "val/000001", "test/000002"]
    taken = source.take([10, 1]).take([1, 0])
    assert taken.image_ids.tolist() == ["train/000001", "test/000001"]
    np.testing.assert_array_equal(pixels(taken, 1), pixels(source, 10))


def test_names_of_the_classes(tmp_path):
    for name in ("dermamnist.npz", "dermamnist_64.npz", "DermaMNIST_224.npz"):
        assert read_medmnist(write(tmp_path / name, arrays())).class_names == CLASS_NAMES["dermamnist"]
    (tmp_path / "new").mkdir()
    # Of another set, and of one that has more labels than it should.
    assert len(read_medmnist(write(tmp_path / "new" / "other.npz", arrays())).class_names) <= 5
    held = arrays(more={"train_labels": np.arange(7)[:, None]})
    assert read_medmnist(write(tmp_path / "new" / "breastmnist.npz", held)).class_names == tuple("0123456")


def test_a_folder_with_one_file(tmp_path):
    write(tmp_path / "bloodmnist.npz", arrays())
    assert read_medmnist(tmp_path).class_names == CLASS_NAMES["bloodmnist"]
    write(tmp_path / "pathmnist.npz", arrays())
    with pytest.raises(UserError, match=r"2 of them \(bloodmnist.npz, pathmnist.npz\)"):
        read_medmnist(tmp_path)


def test_a_set_with_several_labels_an_image_has_none(tmp_path):
    held = arrays(more={f"{part}_labels": np.ones((number, 14), np.uint8) for part, number in SIZES.items()})
    source = read_medmnist(write(tmp_path / "chestmnist.npz", held))
    assert source.labels is None and source.class_names == () and len(source) == 12
    np.testing.assert_array_equal(pixels(source, 3), held["train_images"][3])
    assert "no labels" in source.summary() and "14 labels an image, which do not exclude" in source.summary()


def test_volumes_are_refused_with_the_reason(tmp_path):
    volumes = {f"{part}_images": np.zeros((number, 28, 28, 28), np.uint8) for part, number in SIZES.items()}
    with pytest.raises(UserError, match="volumes of 28x28x28"):
        read_medmnist(write(tmp_path / "organmnist3d.npz", arrays(more=volumes)))


WRONG = {
    "floats": {"train_images": np.zeros((7, 28, 28, 3), np.float32)},
    "columns": {"train_images": np.asfortranarray(np.ones((7, 28, 28, 3), np.uint8))},
    "objects": {"train_labels": np.array([None] * 7, dtype=object)},
    "few labels": {"train_labels": np.zeros((6, 1), np.uint8)},
    "negative": {"train_labels": np.full((7, 1), -1)},
    "two widths": {"train_labels": np.zeros((7, 14), np.uint8)},
    "no widths": {"train_labels": np.zeros((7, 0), np.uint8)},
    "text": {"train_labels": np.array(["a"] * 7)},
    "two sizes": {"test_images": np.zeros((3, 64, 64, 3), np.uint8)},
    "no images": {f"{part}_images": np.zeros((0, 28, 28), np.uint8) for part in SIZES},
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_release_is_refused(case, tmp_path):
    file = write(tmp_path / "dermamnist.npz", arrays(more=WRONG[case]))
    with pytest.raises(UserError, match="dermamnist.npz is no MedMNIST release or is damaged"):
        read_medmnist(file)


def test_an_npz_of_something_else_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no train_images, but weights.npy"):
        read_medmnist(write(tmp_path / "other.npz", {"weights": np.zeros(3)}))


def test_damage_is_an_error_at_every_place(tmp_path):
    """Cut short or one bit changed: an error, or else every pixel and label as before."""
    file = write(tmp_path / "dermamnist.npz", arrays())
    whole, content = read_medmnist(file), file.read_bytes()
    expected = [whole.read(index) for index in range(12)], whole.labels.tolist()
    rng, num_refused = np.random.default_rng(1), 0
    damaged = [content[:length] for length in np.linspace(0, len(content) - 1, 40).astype(int)]
    for place in rng.integers(0, len(content), 80):
        damaged.append(content[:place] + bytes([content[place] ^ 1 << rng.integers(8)]) + content[place + 1 :])
    for data in damaged:
        file.write_bytes(data)
        try:
            source = read_medmnist(file)
        except UserError as error:
            assert str(file) in str(error) and "\n" not in str(error)
            num_refused += 1
            continue
        assert ([source.read(index) for index in range(12)], source.labels.tolist()) == expected
    assert num_refused >= 110


def test_pixels_need_room_on_disk_and_are_not_held_in_memory(tmp_path, monkeypatch):
    file = write(tmp_path / "dermamnist.npz", arrays())
    source = read_medmnist(file)
    assert source.encoded is None and source.paths is None
    monkeypatch.setattr(byte_ranges.shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=28223))
    with pytest.raises(UserError, match="dermamnist.npz takes about 0.0 GB, and .* free; set TMPDIR"):
        read_medmnist(file)
    # 12 images of 28 x 28 x 3.
    monkeypatch.setattr(byte_ranges.shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=28224))
    assert len(read_medmnist(file)) == 12
