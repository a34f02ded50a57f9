"""TFRecords written by TensorFlow's own writer: in TFX's layout, and as others write them."""

import gzip
import io
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from bitkeras.data import byte_ranges
from bitkeras.data.tfrecord import read_tfrecord
from bitkeras.errors import UserError

CLASSES = ("mel", "nv")


def jpeg(seed, size=16):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def feature(value):
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    if isinstance(value, float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
    value = value.encode() if isinstance(value, str) else value
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def example(**features):
    """Underscores in the names become slashes."""
    named = {name.replace("_", "/"): feature(value) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=named)).SerializeToString()


def full(number):
    """A record as `bitkeras ingest` writes it."""
    return example(
        image_encoded=jpeg(number),
        image_format="jpeg",
        image_id=f"ISIC_{number:03d}",
        image_label=number % 2,
        image_class=CLASSES[number % 2],
        image_lesion=f"HAM_{number // 2}",
        image_fact_age=str(10.0 * number),
        image_fact_sex="unknown" if number == 3 else "female",
    )


def write_shard(path, records, *, compression="GZIP"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(record)
    return path


def write_tfx(folder, *, compression="GZIP"):
    """Ids 0 to 7 in no order: six in two shards of Split-train, two in Split-eval."""
    ending = ".gz" if compression else ""
    for split, shards in {"train": ([5, 0, 3], [6, 1, 2]), "eval": ([7, 4],)}.items():
        for number, ids in enumerate(shards):
            name = f"data_tfrecord-{number:05d}-of-{len(shards):05d}{ending}"
            write_shard(folder / f"Split-{split}" / name, map(full, ids), compression=compression)
    return folder


@pytest.mark.parametrize("compression", ["GZIP", ""])
def test_tfx_layout(compression, tmp_path):
    (tmp_path / "schema.pbtxt").write_text("not read")
    source = read_tfrecord(write_tfx(tmp_path, compression=compression))
    assert source.image_ids.tolist() == [f"ISIC_{number:03d}" for number in range(8)]
    assert [source.read(number) for number in range(8)] == [jpeg(number) for number in range(8)]
    assert source.labels.tolist() == [0, 1] * 4 and source.class_names == CLASSES and source.labels.dtype == np.int32
    assert source.groups.tolist() == [f"HAM_{number // 2}" for number in range(8)]
    assert np.flatnonzero(source.official_test).tolist() == [4, 7]
    assert source.facts["age"].tolist() == [str(10 * number) for number in range(8)]
    assert source.facts["sex"].tolist() == ["female"] * 3 + [""] + ["female"] * 4
    # Nothing of the images is in memory.
    assert source.encoded is None and source.paths is None
    taken = source.take([6, 2])
    assert [taken.read(0), taken.read(1)] == [jpeg(6), jpeg(2)] and taken.facts["age"].tolist() == ["60", "20"]


def test_one_split_alone_has_no_test_part(tmp_path):
    source = read_tfrecord(write_tfx(tmp_path) / "Split-eval")
    assert source.image_ids.tolist() == ["ISIC_004", "ISIC_007"] and source.official_test is None


def test_the_part_in_the_records_goes_before_the_folders(tmp_path):
    parts = ("pretrain", "test", "probe_train")
    records = [example(image_encoded=jpeg(n), image_id=str(n), image_part=part) for n, part in enumerate(parts)]
    write_shard(tmp_path / "Split-train" / "data_tfrecord-00000-of-00001.gz", records[:2])
    write_shard(tmp_path / "Split-eval" / "data_tfrecord-00000-of-00001.gz", records[2:])
    source = read_tfrecord(tmp_path)
    assert source.official_test.tolist() == [False, True, False] and source.facts["part"].tolist() == list(parts)


def test_records_of_others(tmp_path):
    """Their own names, one file, no ids, labels as numbers without names."""
    records = [example(jpg=jpeg(n), cls=3 * (n % 2), patient=f"P{n // 2}", weight=0.5 * n) for n in range(4)]
    shard = write_shard(tmp_path / "train.tfrecords", records, compression="")
    source = read_tfrecord(
        tmp_path, image_column="jpg", label_column="cls", group_column="patient", fact_columns="weight"
    )
    assert source.image_ids.tolist() == [f"train.tfrecords#{n}" for n in range(4)]
    assert [source.read(n) for n in range(4)] == [jpeg(n) for n in range(4)]
    assert source.labels.tolist() == [0, 3, 0, 3] and source.class_names == ("0", "1", "2", "3")
    assert source.groups.tolist() == ["P0", "P0", "P1", "P1"] and source.official_test is None
    assert source.facts["weight"].tolist() == ["0", "0.5", "1", "1.5"]
    assert read_tfrecord(shard, image_column="jpg").labels is None


def test_classes_by_name(tmp_path):
    records = [example(image_encoded=jpeg(n), image_class=name) for n, name in enumerate(("nv", "bcc", "nv"))]
    write_shard(tmp_path / "a.tfrecord", records)
    source = read_tfrecord(tmp_path)
    assert source.class_names == ("bcc", "nv") and source.labels.tolist() == [1, 0, 1]


def test_bytes_that_stand_in_two_features_are_the_image_all_the_same(tmp_path):
    records = [example(a_thumbnail=jpeg(1), image_encoded=jpeg(1), z_copy=jpeg(1)[:40])]
    write_shard(tmp_path / "a.tfrecord", records, compression="")
    assert read_tfrecord(tmp_path).read(0) == jpeg(1)


def with_records(*records):
    return lambda folder: write_shard(folder / "a.tfrecord", records)


def plain(**more):
    return example(image_encoded=jpeg(0), **more)


# Records, options, what the sentence says.
WRONG = {
    "no image": ([example(image_label=1, height=3)], {}, "of record 0 .* has height, image/label; name"),
    "empty image": ([example(image_encoded=b"")], {}, "no image in the feature image/encoded"),
    "image is a number": ([example(image_encoded=3)], {}, "no image in the feature image/encoded"),
    "no example": ([b"\x99 some text"], {}, "record 0 of .*a.tfrecord is no tf.Example"),
    "no record": ([], {}, "hold no records"),
    "half the labels": ([plain(image_label=1), plain()], {}, r"no feature image/label in a.tfrecord#1 \(1 of 2"),
    "half the ids": ([plain(), plain(image_id="a")], {}, "no feature image/id in a.tfrecord#0"),
    "one id twice": ([plain(image_id="a"), plain(image_id="a")], {}, "id a stands 2 times"),
    "no label": ([plain(image_label=-1)], {}, "label -1 in the feature image/label of a.tfrecord#0"),
    "half a class": ([plain(image_label=0.5)], {}, "label 0.5"),
    "too many classes": ([plain(image_label=10**9)], {}, "label 1000000000"),
    "two names": (
        [plain(image_label=1, image_class="a"), plain(image_label=1, image_class="b")],
        {},
        "Label 1 is called a in some records and b in a.tfrecord#1",
    ),
    "no such column": ([plain()], {"group_column": "patient"}, "no feature patient in any of the 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_read_is_named(case, tmp_path):
    records, options, expected = WRONG[case]
    write_shard(tmp_path / "a.tfrecord", records)
    with pytest.raises(UserError, match=expected):
        read_tfrecord(tmp_path, **options)


def test_a_missing_shard_is_named(tmp_path):
    (write_tfx(tmp_path) / "Split-train" / "data_tfrecord-00001-of-00002.gz").unlink()
    with pytest.raises(UserError, match="Split-train/data_tfrecord-00001-of-00002.gz is missing beside the others"):
        read_tfrecord(tmp_path)


def test_a_folder_without_records(tmp_path):
    (tmp_path / "Split-train").mkdir()
    (tmp_path / "elsewhere.tfrecord").write_bytes(b"")
    with pytest.raises(UserError, match=r"no records in .* \(Split-train\)"):
        read_tfrecord(tmp_path)


@pytest.mark.parametrize("compression", ["GZIP", ""])
def test_damage_is_an_error_at_every_place(compression, tmp_path):
    """Cut short or one bit changed: an error that names the shard, or else every record as before."""
    shard = write_shard(tmp_path / "a.tfrecord", map(full, range(3)), compression=compression)
    content = shard.read_bytes()
    whole = [read_tfrecord(shard).read(number) for number in range(3)]
    rng, num_refused = np.random.default_rng(0), 0
    # Where a plain shard is cut between two records, nothing shows it.
    between = {0} if compression else set(np.cumsum([0] + [16 + len(full(number)) for number in range(3)]))
    damaged = [content[:length] for length in np.linspace(0, len(content) - 1, 16).astype(int) if length not in between]
    for place in rng.integers(0, len(content), 24):
        damaged.append(content[:place] + bytes([content[place] ^ 1 << rng.integers(8)]) + content[place + 1 :])
    for data in damaged:
        shard.write_bytes(data)
        try:
            source = read_tfrecord(shard)
        except UserError as error:
            assert str(shard) in str(error) and "\n" not in str(error)
            num_refused += 1
            continue
        assert [source.read(number) for number in range(len(source))] == whole
    assert num_refused >= len(damaged) - 4


@pytest.mark.parametrize("compression", ["GZIP", ""])
def test_a_shard_cut_at_any_length_is_refused(compression, tmp_path):
    """Unless it is plain and cut between two records; told beside how many there were, also then."""
    records = [example(image_encoded=b"\xff\xd8\xff" + bytes(5), image_id=str(number)) for number in range(3)]
    shard = write_shard(tmp_path / "Split-train" / "a.tfrecord", records, compression=compression)
    content = shard.read_bytes()
    between = set(np.cumsum([16 + len(record) for record in records])[:-1].tolist()) if not compression else set()
    told = tmp_path / "ingest.json"
    for length in range(len(content)):
        shard.write_bytes(content[:length])
        expected = "a.tfrecord is damaged|hold no records"
        if length in between:
            assert len(read_tfrecord(tmp_path)) < 3
            told.write_text(json.dumps({"splits": {"Split-train": {"num_images": 3}}}))
            expected = "ingest.json tells of 3; copy"
        with pytest.raises(UserError, match=expected):
            read_tfrecord(tmp_path)
        told.unlink(missing_ok=True)
    shard.write_bytes(content)
    assert len(read_tfrecord(tmp_path)) == 3


def test_an_empty_shard_beside_others_is_seen_where_the_number_of_images_is_told(tmp_path):
    write_tfx(tmp_path, compression="")
    (tmp_path / "ingest.json").write_text(
        json.dumps({"splits": {"Split-train": {"num_images": 6}, "Split-eval": {"num_images": 2}}})
    )
    assert len(read_tfrecord(tmp_path)) == 8 and len(read_tfrecord(tmp_path / "Split-eval")) == 2
    shard = tmp_path / "Split-train" / "data_tfrecord-00001-of-00002"
    assert len(read_tfrecord(shard)) == 3
    shard.write_bytes(b"")
    with pytest.raises(UserError, match="Split-train hold 3 records, and .*ingest.json tells of 6"):
        read_tfrecord(tmp_path)
    (tmp_path / "ingest.json").write_text("{")
    with pytest.raises(UserError, match="ingest.json cannot be read"):
        read_tfrecord(tmp_path)


def test_classes_without_a_record_keep_their_names_and_numbers(tmp_path):
    write_tfx(tmp_path)
    (tmp_path / "ingest.json").write_text(json.dumps({"class_names": [*CLASSES, "bcc", "df"]}))
    source = read_tfrecord(tmp_path)
    assert source.class_names == (*CLASSES, "bcc", "df") and source.labels.tolist() == [0, 1] * 4
    (tmp_path / "ingest.json").write_text(json.dumps({"class_names": ["bcc", *CLASSES]}))
    with pytest.raises(UserError, match="is called bcc in some records and mel"):
        read_tfrecord(tmp_path)


def test_shards_put_together_are_read(tmp_path):
    """Two gzip files behind each other are one, of which the last four bytes tell the length of the second."""
    first, second = (
        write_shard(tmp_path / name, map(full, numbers)).read_bytes()
        for name, numbers in (("a.tfrecord", (0, 1)), ("b.tfrecord", (2,)))
    )
    (tmp_path / "b.tfrecord").unlink()
    (tmp_path / "a.tfrecord").write_bytes(first + second)
    assert len(gzip.decompress(first + second)) > 0
    source = read_tfrecord(tmp_path)
    assert [source.read(number) for number in range(3)] == [jpeg(number) for number in range(3)]


def test_a_shard_that_shrinks_is_told(tmp_path):
    shard = write_shard(tmp_path / "a.tfrecord", map(full, range(3)), compression="")
    source = read_tfrecord(shard)
    shard.write_bytes(shard.read_bytes()[:-200])
    assert source.read(0) == jpeg(0)
    with pytest.raises(ValueError, match="a.tfrecord became shorter"):
        source.read(2)


def test_unpacking_needs_room(tmp_path, monkeypatch):
    write_tfx(tmp_path)
    monkeypatch.setattr(byte_ranges.shutil, "disk_usage", lambda folder: type("", (), {"free": 10}))
    with pytest.raises(UserError, match="Unpacking the shards in .* takes about .* set TMPDIR"):
        read_tfrecord(tmp_path)
