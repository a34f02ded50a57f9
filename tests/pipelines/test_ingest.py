"""`bitkeras ingest` as a user gives it: what comes out, read by others, and what a stop leaves behind."""

import csv
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from small_road import ROOT, fingerprint, pretrain_flags
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from bitkeras.archives.stage import Stage
from bitkeras.data import read_source
from bitkeras.data.batches import image_batches, view_batches
from bitkeras.data.split_files import load_split
from bitkeras.data.splits import lesion_split, paper_split
from bitkeras.runs import RunFolder
from pipelines import cli

pytest.importorskip("apache_beam", reason="the extra beam is not installed")


def ingest(data_dir, output_dir, *more: str) -> None:
    given = (f"--data_dir={data_dir}", f"--output_dir={output_dir}", "--images_per_shard=15", "--num_workers=1")
    cli.run("ingest", [*given, *more])


def fail(capfd, *arguments) -> str:
    """The one line that a command ends with that must fail."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["ingest", *map(str, arguments)])
    (line,) = capfd.readouterr().err.splitlines()
    assert stopped.value.code in (1, 2)
    return line


def records_of(folder: Path) -> list[dict]:
    """Every record of a split, read by TensorFlow: {feature: value}."""
    found = []
    for shard in sorted(folder.iterdir()):
        for record in tf.data.TFRecordDataset(str(shard), compression_type="GZIP").as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            found.append({name: getattr(one, one.WhichOneof("kind")).value[0] for name, one in features.items()})
    return found


@pytest.fixture(scope="module")
def records(phantoms, tmp_path_factory) -> Path:
    """120 phantoms as records; to be read and not changed."""
    output = tmp_path_factory.mktemp("archive") / "records"
    ingest(phantoms, output)
    return output


def test_the_folder_is_in_tfxs_layout(records):
    assert {path.relative_to(records).as_posix() for path in records.rglob("*") if path.is_file()} == {
        *(f"Split-train/data_tfrecord-{n:05d}-of-00007.gz" for n in range(7)),
        *(f"Split-eval/data_tfrecord-{n:05d}-of-00002.gz" for n in range(2)),
        *("schema.pbtxt", "stats/Split-train/FeatureStats.pb", "stats/Split-eval/FeatureStats.pb"),
        *("split.csv", "ingest.json"),
    }
    assert [path.name for path in records.parent.iterdir()] == ["records"]


def test_every_image_is_there_once_untouched_in_the_part_of_the_runs_split(records, phantoms):
    source = read_source("ham10000", phantoms)
    split = paper_split(source, seed=0)
    for folder, is_eval in (("Split-train", False), ("Split-eval", True)):
        found = {record["image/id"].decode(): record for record in records_of(records / folder)}
        (expected,) = np.nonzero((split.parts == "test") == is_eval)
        assert sorted(found) == sorted(source.image_ids[expected].tolist())
        for index in expected:
            record = found[str(source.image_ids[index])]
            assert record["image/encoded"] == Path(source.paths[index]).read_bytes()
            assert record["image/class"].decode() == source.class_names[record["image/label"]]
            assert record["image/label"] == source.labels[index]
            assert record["image/lesion"].decode() == source.groups[index]
            assert record["image/part"].decode() == split.parts[index]
            for name, values in source.facts.items():
                assert record.get(f"image/fact/{name}", b"").decode() == values[index]
    saved = load_split(records / "split.csv", source)
    assert (saved.parts == split.parts).all()


def test_a_shard_holds_several_classes(records):
    """Else whoever reads a few shards sees a few classes."""
    for shard in (records / "Split-train").iterdir():
        found = tf.data.TFRecordDataset(str(shard), compression_type="GZIP").as_numpy_iterator()
        labels = {tf.train.Example.FromString(one).features.feature["image/label"].int64_list.value[0] for one in found}
        assert len(labels) >= 3


def test_schema_statistics_and_record_agree_with_the_records(records):
    schema = text_format.Parse((records / "schema.pbtxt").read_text(), schema_pb2.Schema())
    told = json.loads((records / "ingest.json").read_text())
    assert told["num_images"] == 120 and told["num_bad_images"] == 0 and told["asked"]["split"] == "paper"
    for folder in ("Split-train", "Split-eval"):
        found = records_of(records / folder)
        proto = (records / "stats" / folder / "FeatureStats.pb").read_bytes()
        (dataset,) = statistics_pb2.DatasetFeatureStatisticsList.FromString(proto).datasets
        assert dataset.num_examples == len(found) == told["splits"][folder]["num_images"]
        assert {f.path.step[0] for f in dataset.features} == {f.name for f in schema.feature}
        assert {f.name for f in schema.feature} >= {name for record in found for name in record}
        for feature in dataset.features:
            values = [record[feature.path.step[0]] for record in found if feature.path.step[0] in record]
            stats = getattr(feature, feature.WhichOneof("stats"))
            assert stats.common_stats.num_non_missing == len(values)
            assert stats.common_stats.num_missing == len(found) - len(values)
        classes = [record["image/class"].decode() for record in found]
        assert told["splits"][folder]["classes"] == {name: classes.count(name) for name in set(classes)}


def test_training_from_the_records_sees_the_pixels_of_the_files(records, phantoms):
    files, packed = read_source("ham10000", phantoms), read_source("tfrecord", records)
    assert (files.image_ids == packed.image_ids).all() and (files.labels == packed.labels).all()
    assert (files.groups == packed.groups).all() and files.class_names == packed.class_names
    everything = {"indices": np.arange(len(files)), "image_size": 32, "batch_size": 60}
    for a, b in zip(image_batches(files, **everything), image_batches(packed, **everything)):
        np.testing.assert_array_equal(a, b)
    views = {**everything, "policy": "simsiam", "seed": 3}
    a, b = (next(iter(view_batches(source, **views))) for source in (files, packed))
    for name in ("views_a", "views_b", "index"):
        np.testing.assert_array_equal(a[name], b[name])


def test_classes_of_which_no_record_was_written_come_back(phantoms, tmp_path):
    source = read_source("ham10000", phantoms)
    is_left_out = source.labels == len(source.class_names) - 1
    parts = np.where(is_left_out, "unused", paper_split(source, seed=0).parts)
    lines = [f"{image},{part}" for image, part in zip(source.image_ids, parts)]
    (tmp_path / "mine.csv").write_text("\n".join(["image,part", *lines]))
    ingest(phantoms, tmp_path / "records", f"--split={tmp_path / 'mine.csv'}")
    packed = read_source("tfrecord", tmp_path / "records")
    assert packed.class_names == source.class_names and len(packed) == (~is_left_out).sum() < len(source)
    assert packed.labels.tolist() == source.labels[~is_left_out].tolist()


@pytest.mark.slow
def test_a_network_can_be_trained_from_the_records(records, tmp_path):
    cli.run("pretrain", [*pretrain_flags(records, tmp_path / "run"), "--dataset=tfrecord", "--epochs=1"])
    run = RunFolder(tmp_path / "run")
    assert run.is_finished and len(run.metrics()) == 2
    with open(run.split_path, newline="") as file, open(records / "split.csv", newline="") as other:
        tested = [{row["image_id"] for row in csv.DictReader(one) if row["part"] == "test"} for one in (file, other)]
    assert tested[0] == tested[1]


def test_two_workers_write_the_same_bytes(records, phantoms, tmp_path):
    ingest(phantoms, tmp_path / "two", "--num_workers=2")
    assert contents(tmp_path / "two") == contents(records)


def contents(folder: Path) -> dict[str, str]:
    return {name: digest for name, (_, digest) in fingerprint(folder).items()}


def test_given_again_it_says_so_and_other_flags_are_refused(records, phantoms, capfd):
    before = fingerprint(records)
    ingest(phantoms, records)
    lines = capfd.readouterr().out.splitlines()
    assert "already finished (120 images)" in lines[-1]
    line = fail(capfd, f"--data_dir={phantoms}", f"--output_dir={records}", "--image_size=16", "--images_per_shard=15")
    assert "--image_size=16 (recorded: None)" in line
    assert fingerprint(records) == before


def test_a_finished_folder_is_not_taken_for_that_of_corrected_labels(records, phantoms, tmp_path, capfd):
    data = shutil.copytree(phantoms, tmp_path / "data")
    (table,) = data.glob("*metadata*")
    first, row, *rows = table.read_text().splitlines()
    dx = row.split(",")[2]
    table.write_text("\n".join([first, row.replace(f",{dx},", ",df," if dx != "df" else ",nv,"), *rows]) + "\n")
    line = fail(capfd, f"--data_dir={data}", f"--output_dir={records}", "--images_per_shard=15", "--num_workers=1")
    assert "was started on other images or other facts about them" in line


def test_lesions_stay_together_with_the_split_of_lesions(phantoms, tmp_path):
    ingest(phantoms, tmp_path / "records", "--split=lesion", "--seed=5")
    source = read_source("ham10000", phantoms)
    split = lesion_split(source, seed=5)
    found = {record["image/id"].decode() for record in records_of(tmp_path / "records" / "Split-eval")}
    assert found == set(source.image_ids[split.indices("test")].tolist())
    lesions = [
        {record["image/lesion"] for record in records_of(tmp_path / "records" / f"Split-{part}")}
        for part in ("train", "eval")
    ]
    assert not lesions[0] & lesions[1]


def test_unlabelled_images_are_all_to_train_on(phantoms, tmp_path):
    ingest(phantoms, tmp_path / "records", "--dataset=unlabelled_folder", "--image_size=24")
    assert not (tmp_path / "records" / "Split-eval").exists()
    found = records_of(tmp_path / "records" / "Split-train")
    assert len(found) == 120 and {record["image/part"] for record in found} == {b"pretrain"}
    assert "image/label" not in found[0] and "image/class" not in found[0]
    assert {min(tf.io.decode_image(record["image/encoded"]).shape[:2]) for record in found} == {24}
    assert read_source("tfrecord", tmp_path / "records").labels is None


def test_records_of_records_are_the_same_images(records, phantoms, tmp_path):
    """The workers read a source again that cannot be sent to them."""
    ingest(records, tmp_path / "again", "--dataset=tfrecord")
    source = read_source("ham10000", phantoms)
    found = {
        record["image/id"].decode(): record["image/encoded"]
        for part in ("train", "eval")
        for record in records_of(tmp_path / "again" / f"Split-{part}")
    }
    assert found == {str(source.image_ids[n]): source.read(n) for n in range(120)}


@pytest.fixture
def spoiled(phantoms, tmp_path) -> tuple[Path, list[Path]]:
    """(a copy of the phantoms, two of its images, cut in the middle)."""
    shutil.copytree(phantoms, tmp_path / "data")
    images = sorted((tmp_path / "data").rglob("*.jpg"))[20:80:40]
    for image in images:
        image.write_bytes(image.read_bytes()[:400])
    return tmp_path / "data", images


def test_bad_images_are_listed_and_restoring_them_is_all_there_is_to_do(spoiled, phantoms, records, tmp_path, capfd):
    data, images = spoiled
    flags = [f"--data_dir={data}", f"--output_dir={tmp_path / 'out'}", "--images_per_shard=15", "--num_workers=1"]
    line = fail(capfd, *flags)
    assert str(images[0]) in line and "1 more" in line and "--on_bad_image=skip" in line
    assert "bad_images.csv" in line and not (tmp_path / "out").exists()
    (listed,) = tmp_path.glob(".out.*/bad_images.csv")
    rows = list(csv.DictReader(open(listed)))
    assert [row["file"] for row in rows] == [str(image) for image in images] and all(row["reason"] for row in rows)
    assert [row["image_id"] for row in rows] == [image.stem for image in images]
    # Two of 120 are above 1 %.
    line = fail(capfd, *flags, "--on_bad_image=skip")
    assert "2 of 120 images cannot be used" in line and not (tmp_path / "out").exists()
    for image in images:
        shutil.copy(next(phantoms.rglob(image.name)), image)
    ingest(data, tmp_path / "out")
    assert "going on after" in capfd.readouterr().out
    assert contents(tmp_path / "out") == contents(records)


def test_skip_goes_without_a_bad_image_and_counts_it(spoiled, phantoms, tmp_path, capfd):
    data, images = spoiled
    shutil.copy(next(phantoms.rglob(images[1].name)), images[1])
    ingest(data, tmp_path / "out", "--on_bad_image=skip")
    assert "1 images cannot be used" in capfd.readouterr().out
    told = json.loads((tmp_path / "out" / "ingest.json").read_text())
    assert told["num_images"] == 119 and told["num_bad_images"] == 1
    assert [row["file"] for row in csv.DictReader(open(tmp_path / "out" / "bad_images.csv"))] == [str(images[0])]
    source = read_source("tfrecord", tmp_path / "out")
    assert len(source) == 119 and images[0].stem not in source.image_ids.tolist()
    assert load_split(tmp_path / "out" / "split.csv", source).parts.tolist().count("test") in (23, 24)


def test_counts_that_do_not_agree_with_the_source_are_an_error(phantoms, tmp_path, capfd, monkeypatch):
    write_report = Stage.write_report

    def lose(self, shard, report):
        first = next(iter(report["classes"]))
        write_report(self, shard, {**report, "classes": {**report["classes"], first: report["classes"][first] - 1}})

    monkeypatch.setattr(Stage, "write_report", lose)
    line = fail(capfd, f"--data_dir={phantoms}", f"--output_dir={tmp_path / 'out'}", "--num_workers=1")
    assert "of class" in line and "ham10000 has" in line and not (tmp_path / "out").exists()


def test_what_stands_behind_the_dashes_must_be_flags_of_beam(phantoms, tmp_path, capfd):
    given = [f"--data_dir={phantoms}", f"--output_dir={tmp_path / 'out'}"]
    assert "oops stands without a flag" in fail(capfd, *given, "oops")
    assert "--runner=SparkRunner goes before the --" in fail(capfd, *given, "--", "--runner=SparkRunner")
    assert "FlinkRunner" in fail(capfd, *given, "--runner=Flink")
    line = fail(capfd, *given, "--dataset=tfrecord", "--worker_data_dir=gs://x/y")
    assert str(phantoms) in line


def test_images_that_are_no_files_cannot_lie_elsewhere_for_workers(records, tmp_path, capfd):
    given = ["--dataset=tfrecord", f"--data_dir={records}", f"--output_dir={tmp_path / 'out'}"]
    assert "--worker_data_dir is for images that are files" in fail(capfd, *given, "--worker_data_dir=gs://x/y")


# Slowed down, so that it can be stopped on the way.
SLOW = """
import warnings
warnings.simplefilter("ignore", FutureWarning)  # of a library of Google's that the extra tfx brings
import time
from bitkeras.archives.records import RecordWriter
write = RecordWriter.__call__
def slowly(self, shard):
    write(self, shard)
    print("written", shard, flush=True)
    time.sleep(1)
RecordWriter.__call__ = slowly
from pipelines import cli
cli.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, -15)])
def test_a_stopped_ingest_goes_on_with_the_missing_shards(number, status, records, phantoms, tmp_path, capfd):
    flags = [f"--data_dir={phantoms}", f"--output_dir={tmp_path / 'out'}", "--images_per_shard=15", "--num_workers=2"]
    command = [sys.executable, "-c", SLOW, "ingest", *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    written = []
    for line in iter(process.stdout.readline, ""):
        written += [line.split()[1]] if line.startswith("written") else []
        if len(written) == 3:
            process.send_signal(number)
            break
    _, errors = process.communicate(timeout=120)
    assert process.returncode == status and len(errors.splitlines()) == (1 if number == signal.SIGINT else 0), errors
    assert not (tmp_path / "out").exists()
    partial = tmp_path / ".out.partial"
    before = fingerprint(partial)
    assert set(written) <= set(before)
    # A shard that can be seen is whole.
    for shard in partial.rglob("*.gz"):
        assert sum(1 for _ in tf.data.TFRecordDataset(str(shard), compression_type="GZIP")) in (12, 13, 14)
    capfd.readouterr()
    time.sleep(0.01)
    ingest(phantoms, tmp_path / "out", "--num_workers=2")
    assert "9 shards, going on after" in capfd.readouterr().out
    assert contents(tmp_path / "out") == contents(records)
    after = fingerprint(tmp_path / "out")
    assert all(after[shard][0] == before[shard][0] for shard in written), "a finished shard was written again"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(tmp_path, monkeypatch):
    """2,000 images of 120 kB, 240 MB in all, on the disk as 20 files with many names."""
    for n in range(20):
        pixels = np.random.default_rng(n).integers(0, 256, (200, 200, 3), dtype=np.uint8)
        first = tmp_path / "data" / f"{n:02d}-000.bmp"
        first.parent.mkdir(exist_ok=True)
        _write_bmp(first, pixels)
        for copy in range(1, 100):
            os.link(first, tmp_path / "data" / f"{n:02d}-{copy:03d}.bmp")
    megabytes = []
    write_report = Stage.write_report

    def measure(self, shard, report):
        write_report(self, shard, report)
        gc.collect()
        (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmRSS"))
        megabytes.append(int(line.split()[1]) / 1024)

    monkeypatch.setattr(Stage, "write_report", measure)
    ingest(tmp_path / "data", tmp_path / "out", "--dataset=unlabelled_folder", "--images_per_shard=50")
    assert len(megabytes) == 40
    early, late = np.median(megabytes[5:10]), np.median(megabytes[-5:])
    # What a fifth of the images between would take.
    assert late - early < 35, megabytes


def _write_bmp(path: Path, pixels: np.ndarray) -> None:
    """24 bits a pixel, uncompressed, from the bottom up, blue first; the width is a multiple of four."""
    height, width, _ = pixels.shape
    header = b"BM" + (54 + pixels.size).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    info = b"".join(n.to_bytes(4, "little") for n in (40, width, height)) + b"\x01\x00\x18\x00" + bytes(24)
    path.write_bytes(header + info + pixels[::-1, :, ::-1].tobytes())
