import dataclasses
import re

import numpy as np
import pytest
from small_archive import write_images

from bitkeras.archives.shards import Place, Shard, cut, fingerprint, read_shard, shard_table
from bitkeras.archives.storage import write_json


@pytest.mark.parametrize(("number", "per_shard"), [(1, 1), (7, 3), (9, 3), (1000, 999), (5, 100)])
def test_every_image_is_in_one_shard_of_nearly_equal_size(number, per_shard):
    indices = np.random.default_rng(0).permutation(number)
    shards = cut(indices, "Split-train/data_tfrecord", ".gz", images_per_shard=per_shard)
    assert np.concatenate([shard.indices for shard in shards]).tolist() == indices.tolist()
    sizes = [len(shard.indices) for shard in shards]
    assert max(sizes) <= per_shard and max(sizes) - min(sizes) <= 1
    for index, shard in enumerate(shards):
        name = r"Split-train/data_tfrecord-(\d{5})-of-(\d{5})\.gz"
        assert [int(found) for found in re.fullmatch(name, shard.name).groups()] == [index, len(shards)]
        assert shard.folder == "Split-train"


def test_no_images_make_no_shard():
    assert cut(np.arange(0), "features", ".npz", images_per_shard=5) == []
    assert Shard("features-00000-of-00001.npz", np.arange(1)).folder == ""


@pytest.fixture
def source(tmp_path):
    source = Place("image_folder", str(write_images(tmp_path / "data", 6))).read()
    facts = {"age": np.array(["45", "", "50", "1", "2", "3"])}
    return dataclasses.replace(source, groups=np.array(list("ababcc")), facts=facts)


def test_a_worker_knows_of_its_images_what_the_source_does(source, tmp_path):
    chosen, parts = np.array([4, 1, 2]), np.array(["pretrain", "test"] * 3)
    write_json(str(tmp_path / "table.json"), shard_table(source, chosen, parts), beside=str(tmp_path))
    found, found_parts = read_shard(str(tmp_path / "table.json"), Place("image_folder", "not looked at"))
    expected = source.take(chosen)
    for name in ("image_ids", "paths", "labels", "groups"):
        assert getattr(found, name).tolist() == getattr(expected, name).tolist()
    assert found.facts["age"].tolist() == ["2", "", "50"] and found.class_names == source.class_names
    assert found_parts == ["pretrain", "test", "pretrain"] and found.read(1) == expected.read(1)
    assert found.labels.dtype == np.int32


def test_a_fingerprint_follows_what_is_known_and_not_where_it_lies(source):
    def printed(source, parts=("pretrain",) * 6):
        return fingerprint([shard_table(source, np.arange(6), np.array(parts))])

    moved = dataclasses.replace(source, paths=np.array([f"/elsewhere/{path}" for path in source.paths]))
    assert printed(moved) == printed(source)
    others = [
        dataclasses.replace(source, labels=1 - source.labels),
        dataclasses.replace(source, groups=np.array(list("abacbc"))),
        dataclasses.replace(source, facts={}),
        dataclasses.replace(source, image_ids=source.image_ids[::-1]),
    ]
    prints = [printed(source), printed(source, ("test",) * 6), *map(printed, others)]
    assert len(set(prints)) == len(prints)


def test_a_process_reads_a_place_once(tmp_path):
    place = Place("image_folder", str(write_images(tmp_path / "data", 3)))
    assert place.source is Place("image_folder", str(tmp_path / "data"), {}).source
    write_images(tmp_path / "data", 4)
    assert len(place.source) == 3 and len(place.read()) == 4 and len(place.source) == 4
    other = Place("unlabelled_folder", place.data_dir)
    assert other.source.labels is None and place.source.labels is not None
