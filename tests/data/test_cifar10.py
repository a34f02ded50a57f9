"""The three forms of CIFAR-10, written from the same arrays."""

import importlib.util
import io
import pickle
import struct

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.data.cifar10 import CIFAR10_CLASSES, read_cifar10
from bitkeras.data.preprocess import decode_image
from bitkeras.errors import UserError

BATCHES = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]
PER_BATCH = 4


def arrays():
    """{batch: (images uint8 [n, 32, 32, 3], labels [n])}."""
    rng = np.random.default_rng(0)
    return {
        name: (rng.integers(0, 256, (PER_BATCH, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, PER_BATCH).tolist())
        for name in BATCHES
    }


def planes(images):
    return images.transpose(0, 3, 1, 2).reshape(len(images), 3072)


def fresh_module(module):
    """Another copy of it, without what others have changed in the first."""
    spec = importlib.util.spec_from_file_location("fresh", module.__file__)
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    return fresh


# The TFX libraries import dill, which puts functions of its own into the class that is derived from here.
plain_pickle = fresh_module(pickle)


class Python2Pickler(plain_pickle._Pickler):
    """Protocol 2 as Python 2 wrote it: str and bytes are both its byte string, opcode T."""

    dispatch = dict(plain_pickle._Pickler.dispatch)

    def save_byte_string(self, value):
        value = value.encode("latin1") if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_byte_string


def python2_pickle(value):
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(value)
    return stream.getvalue()


def write_python(folder, dump=python2_pickle):
    folder.mkdir(parents=True)
    for name, (images, labels) in arrays().items():
        batch = {b"batch_label": name.encode(), b"labels": labels, b"data": planes(images), b"filenames": [b"a.png"]}
        (folder / name).write_bytes(dump(batch))
    (folder / "batches.meta").write_bytes(dump({b"label_names": list(CIFAR10_CLASSES), b"num_vis": 3072}))
    return folder


def write_binary(folder):
    folder.mkdir(parents=True)
    for name, (images, labels) in arrays().items():
        records = b"".join(bytes([label]) + row.tobytes() for label, row in zip(labels, planes(images)))
        (folder / f"{name}.bin").write_bytes(records)
    return folder


def write_folders(folder):
    for name, (images, labels) in arrays().items():
        for number, (image, label) in enumerate(zip(images, labels)):
            part = "test" if name == "test_batch" else "train"
            path = folder / part / CIFAR10_CLASSES[label] / f"{name}_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tf.io.encode_png(image).numpy())
    return folder


def content(source):
    """The set of (class, in the test part, pixels): what does not depend on the order."""
    return {
        (
            source.class_names[source.labels[i]],
            bool(source.official_test[i]),
            decode_image(source.read(i)).numpy().tobytes(),
        )
        for i in range(len(source))
    }


def expected_content():
    return {
        (CIFAR10_CLASSES[label], name == "test_batch", image.tobytes())
        for name, (images, labels) in arrays().items()
        for image, label in zip(images, labels)
    }


@pytest.mark.parametrize("write", [write_python, write_binary, write_folders])
@pytest.mark.parametrize("below", [False, True])
def test_every_form_gives_the_same_images(write, below, tmp_path):
    place = tmp_path / "any_name" / "cifar-10"
    write(place)
    source = read_cifar10(place.parent if below else place)
    assert len(source) == 24 and len(set(source.image_ids)) == 24
    assert source.class_names == CIFAR10_CLASSES == tuple(sorted(CIFAR10_CLASSES))
    assert content(source) == expected_content()
    assert "24 images; 10 classes" in source.summary() and "4 of them the released test part" in source.summary()


def test_batches_keep_order_and_share_ids(tmp_path):
    python = read_cifar10(write_python(tmp_path / "py"))
    binary = read_cifar10(write_binary(tmp_path / "bin"))
    assert python.image_ids.tolist() == binary.image_ids.tolist() == sorted(python.image_ids)
    assert python.location(5) == "data_batch_2/00001"
    assert list(python.encoded) == list(binary.encoded)
    assert python.labels.tolist() == [label for _, labels in arrays().values() for label in labels]


def test_batches_pickled_by_python_3(tmp_path):
    source = read_cifar10(write_python(tmp_path / "py", dump=lambda value: pickle.dumps(value, protocol=4)))
    assert content(source) == expected_content()


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("dump", [python2_pickle, pickle.dumps])
def test_pickle_that_runs_a_program_is_refused(dump, tmp_path):
    write_python(tmp_path / "py")
    harm = tmp_path / "harm"
    batch = {b"data": Attack(harm), b"labels": []}
    (tmp_path / "py" / "data_batch_2").write_bytes(dump(batch))
    with pytest.raises(UserError, match="data_batch_2 is damaged .*asks for .*open"):
        read_cifar10(tmp_path / "py")
    assert not harm.exists()


@pytest.mark.parametrize(
    "stored, reason",
    [
        (b"", "EOFError"),
        (python2_pickle({b"labels": [1]}), "KeyError"),
        (python2_pickle([1, 2]), "TypeError"),
        (python2_pickle({b"data": np.zeros([2, 3072], np.float32), b"labels": [0, 1]}), "3072 bytes"),
        (python2_pickle({b"data": np.zeros([2, 99], np.uint8), b"labels": [0, 1]}), "3072"),
        (python2_pickle({b"data": np.zeros([2, 3072], np.uint8), b"labels": [0]}), "labels"),
        (python2_pickle({b"data": np.zeros([1, 3072], np.uint8), b"labels": [10]}), "labels"),
    ],
)
def test_damaged_python_batch(stored, reason, tmp_path):
    (write_python(tmp_path / "py") / "data_batch_3").write_bytes(stored)
    with pytest.raises(UserError, match=f"data_batch_3 is damaged .*({reason})"):
        read_cifar10(tmp_path)


def test_truncated_batches(tmp_path):
    for folder, ending in ((write_python(tmp_path / "py"), ""), (write_binary(tmp_path / "bin"), ".bin")):
        path = folder / f"data_batch_4{ending}"
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(UserError, match=f"data_batch_4{ending} is damaged"):
            read_cifar10(folder)
        path.unlink()
        with pytest.raises(UserError, match=f"data_batch_4{ending} is missing"):
            read_cifar10(folder)


def test_binary_label_out_of_range(tmp_path):
    path = write_binary(tmp_path / "bin") / "test_batch.bin"
    path.write_bytes(b"\x0a" + path.read_bytes()[1:])
    with pytest.raises(UserError, match="test_batch.bin is damaged"):
        read_cifar10(tmp_path)


def test_folder_errors(tmp_path):
    write_folders(tmp_path / "c")
    (tmp_path / "c" / "train" / "lorry").mkdir()
    (tmp_path / "c" / "train" / "lorry" / "a.png").write_bytes(
        tf.io.encode_png(np.zeros([32, 32, 3], np.uint8)).numpy()
    )
    with pytest.raises(UserError, match="lorry is not of CIFAR-10; known are airplane"):
        read_cifar10(tmp_path / "c")
    (tmp_path / "d" / "train").mkdir(parents=True)
    (tmp_path / "c" / "test").rename(tmp_path / "d" / "test")
    (tmp_path / "d" / "train").rmdir()
    with pytest.raises(UserError, match="train does not exist"):
        read_cifar10(tmp_path / "d")


@pytest.mark.slow
@pytest.mark.real_data
def test_real_folders(real_cifar10):
    source = read_cifar10(real_cifar10)
    assert np.bincount(source.labels).tolist() == [6000] * 10
    assert int(source.official_test.sum()) == 10000
