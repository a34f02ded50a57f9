"""Shards of records, written by a worker without Beam and read by TensorFlow."""

import dataclasses
import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from small_archive import damaged, jpeg, pixels, png, read_records, shard_of, write_images

from bitkeras.archives import records, storage
from bitkeras.archives.examples import format_of, make_example
from bitkeras.archives.records import RecordWriter
from bitkeras.archives.shards import Place
from bitkeras.data.source import ImageSource
from bitkeras.errors import UserError

SHARD = "Split-train/data_tfrecord-00000-of-00001.gz"


def written(stage):
    return read_records(f"{stage.path}/{SHARD}")


def report_of(stage):
    with open(stage.report_path(SHARD)) as file:
        return json.load(file)


@pytest.fixture
def place(tmp_path):
    return Place("image_folder", str(write_images(tmp_path / "data", 7)))


def test_the_files_are_in_the_records_untouched(place, tmp_path):
    source = place.read()
    stage = shard_of(place, tmp_path / "out", parts=np.array(["pretrain", "probe_val"] * 3 + ["test"]))
    RecordWriter(stage, place)(SHARD)
    found = written(stage)
    assert [record["image/id"].decode() for record in found] == source.image_ids.tolist()
    for index, record in enumerate(found):
        assert record["image/encoded"] == open(source.paths[index], "rb").read()
        assert record["image/label"] == source.labels[index]
        assert record["image/class"].decode() == source.class_names[source.labels[index]]
        assert record["image/format"] == (b"png" if source.paths[index].endswith("png") else b"jpeg")
        assert record["image/part"] == (b"test" if index == 6 else (b"pretrain", b"probe_val")[index % 2])
        assert record.keys() == {f"image/{name}" for name in ("encoded", "format", "id", "label", "class", "part")}
    report = report_of(stage)
    assert report["num_images"] == 7 and report["bad"] == [] and report["classes"] == {"mel": 4, "nv": 3}
    assert report["num_bytes"] == [len(record["image/encoded"]) for record in found]
    assert report["formats"] == {"jpeg": 5, "png": 2}


def test_what_is_known_stands_in_the_example_and_what_is_not_is_left_out():
    source = ImageSource(
        name="made",
        image_ids=np.array(["a", "ü"]),
        encoded=np.array([b"", b""], object),
        groups=np.array(["HAM_1", "HAM_2"]),
        facts={"age": np.array(["45", ""]), "sex": np.array(["", "female"])},
    )
    found = []
    for index in range(2):
        features = tf.train.Example.FromString(make_example(source, index, png(0))).features.feature
        found.append({name: one.bytes_list.value[0] for name, one in features.items()})
    common = {"image/encoded": png(0), "image/format": b"png"}
    assert found[0] == {**common, "image/id": b"a", "image/lesion": b"HAM_1", "image/fact/age": b"45"}
    assert found[1] == {
        **common,
        "image/id": "ü".encode(),
        "image/lesion": b"HAM_2",
        "image/fact/sex": b"female",
    }


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF"])
def test_formats_are_told_by_content(kind):
    file = io.BytesIO()
    Image.fromarray(pixels(0)).save(file, kind)
    assert format_of(file.getvalue()) == kind.lower()


def test_images_that_do_not_decode_are_reported_and_only_kept_shards_go_without(place, tmp_path):
    source = place.read()
    (index,) = np.flatnonzero(source.image_ids == "mel/00002.png")
    whole = open(source.paths[index], "rb").read()
    for keep in (False, True):
        open(source.paths[index], "wb").write(damaged(whole))
        stage = shard_of(place, tmp_path / f"out{keep}")
        # What a reader looked at may be gone or another when its turn comes.
        (tmp_path / "data" / "nv" / "00001.jpg").rename(tmp_path / "away.jpg")
        RecordWriter(stage, place, keep_incomplete=keep)(SHARD)
        (tmp_path / "away.jpg").rename(tmp_path / "data" / "nv" / "00001.jpg")
        bad = report_of(stage)["bad"]
        assert [image_id for image_id, _, _ in bad] == ["mel/00002.png", "nv/00001.jpg"]
        assert bad[0][1] == str(source.paths[index])
        assert bad[0][2] == f"it is damaged or cut short (Invalid PNG data, size {len(whole)})"
        assert bad[1][2] == "it cannot be read (No such file or directory)"
        assert report_of(stage)["num_images"] == 5
        assert storage.gfile.exists(f"{stage.path}/{SHARD}") == keep
    assert len(written(stage)) == 5


def test_a_smaller_size_keeps_the_shape_and_agrees_with_pillow(tmp_path):
    sizes = {"wide": (48, 80), "tall": (80, 48), "fits": (24, 40)}
    for name, (height, width) in sizes.items():
        for ending, encode in (("jpg", jpeg), ("png", png)):
            path = tmp_path / "data" / "x" / f"{name}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(len(name), height=height, width=width))
    place = Place("unlabelled_folder", str(tmp_path / "data"))
    stage = shard_of(place, tmp_path / "out")
    RecordWriter(stage, place, image_size=24)(SHARD)
    for record in written(stage):
        name, _, ending = record["image/id"].decode().removeprefix("x/").partition(".")
        original = (tmp_path / "data" / "x" / f"{name}.{ending}").read_bytes()
        if name == "fits":
            assert record["image/encoded"] == original
            continue
        height, width = (side // 2 for side in sizes[name])
        small = Image.open(io.BytesIO(record["image/encoded"]))
        assert small.format == ("JPEG" if ending == "jpg" else "PNG") and small.size == (width, height)
        if ending == "jpg":
            # Luma and colour are sampled alike: 4:4:4.
            assert small.layer[0][1:3] == small.layer[1][1:3]
        # Pillow's triangle filter is TensorFlow's antialiased one.
        whole = Image.open(io.BytesIO(original)).convert("RGB")
        wanted = np.asarray(whole.resize((width, height), Image.BILINEAR), int)
        difference = np.abs(np.asarray(small.convert("RGB"), int) - wanted)
        # Of the JPEG it is compression that differs; a shift by half a pixel would be tens.
        at_most, on_average = (1, 0.5) if ending == "png" else (25, 5)
        assert difference.max() <= at_most and difference.mean() < on_average


def test_a_shard_that_does_not_read_back_is_refused_and_not_seen(place, tmp_path, monkeypatch):
    stage = shard_of(place, tmp_path / "out")
    read_back = records._read_back

    def flip(path):
        content = open(path, "rb").read()
        open(path, "wb").write(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        return read_back(path)

    def lose(path):
        found = read_back(path)
        return {**found, "images": found["images"][1:]}

    for spoil, told in (
        (flip, "damaged while it was written"),
        (lose, "7 images were written .* and 6 or others are in it"),
    ):
        monkeypatch.setattr(records, "_read_back", spoil)
        with pytest.raises(UserError, match=told):
            RecordWriter(stage, place)(SHARD)
        assert not storage.gfile.exists(f"{stage.path}/{SHARD}") and stage.num_reports() == 0
        assert storage.gfile.listdir(f"{stage.work}/scratch") == []


def test_a_full_disk_is_told_in_a_sentence(place, tmp_path, monkeypatch):
    stage = shard_of(place, tmp_path / "out")

    def fill(self, path, *_):
        raise tf.errors.ResourceExhaustedError(None, None, f"{path}; No space left on device")

    monkeypatch.setattr(RecordWriter, "_write", fill)
    with pytest.raises(
        UserError, match="data_tfrecord-00000-of-00001.gz could not be written .*No space left.*make room"
    ):
        RecordWriter(stage, place)(SHARD)
    assert not storage.gfile.exists(f"{stage.path}/{SHARD}")


def test_images_that_are_no_files_are_read_by_the_worker_itself(tmp_path):
    """Of a source without paths only the place goes to a worker: it finds the same images there."""
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        records_ = rng.integers(0, 256, (3, 3073), dtype=np.uint8)
        records_[:, 0] %= 10
        (tmp_path / f"{name}.bin").write_bytes(records_.tobytes())
    place = Place("cifar10", str(tmp_path))
    source, stage = place.read(), shard_of(place, tmp_path / "out")
    assert json.load(open(stage.table_path(SHARD)))["paths"] is None
    elsewhere = dataclasses.replace(place, options={})
    RecordWriter(stage, elsewhere)(SHARD)
    assert [record["image/encoded"] for record in written(stage)] == list(source.encoded)


def test_workers_elsewhere_read_from_their_own_folder(place, tmp_path):
    stage = shard_of(place, tmp_path / "out")
    (tmp_path / "data").rename(tmp_path / "bucket")
    RecordWriter(stage, dataclasses.replace(place, worker_data_dir=str(tmp_path / "bucket")))(SHARD)
    assert report_of(stage)["bad"] == []
    assert written(stage)[0]["image/encoded"] == (tmp_path / "bucket" / "mel" / "00000.jpg").read_bytes()
    (tmp_path / "bucket").rename(tmp_path / "gone")
    RecordWriter(stage, dataclasses.replace(place, worker_data_dir=str(tmp_path / "bucket")))(SHARD)
    assert len(report_of(stage)["bad"]) == 7 and "cannot be read" in report_of(stage)["bad"][0][2]
