import os

import pytest
import tensorflow as tf

from bitkeras.archives.stage import Stage
from bitkeras.archives.storage import written_whole
from bitkeras.errors import UserError

ASKED = {"seed": 0, "images": "abc"}


def fill(stage):
    stage.start(ASKED)
    stage.write_text("Split-train/shard.gz", b"records")
    stage.write_report("Split-train/shard.gz", {"bad": []})


def test_the_output_appears_whole_and_alone(tmp_path):
    stage = Stage(str(tmp_path / "out"), "ingest.json")
    fill(stage)
    assert not (tmp_path / "out").exists() and stage.num_reports() == 1
    assert {path.name for path in tmp_path.iterdir()} == {".out.partial", ".out.work"}
    stage.publish({"num_images": 3})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(os.listdir(tmp_path / "out")) == ["Split-train", "ingest.json"]
    assert Stage(str(tmp_path / "out") + "/", "ingest.json").finished({"seed": 0})["num_images"] == 3


def test_an_empty_output_folder_is_taken_and_a_full_one_is_not(tmp_path):
    (tmp_path / "out").mkdir()
    stage = Stage(str(tmp_path / "out"), "ingest.json")
    assert stage.finished(ASKED) is None
    fill(stage)
    stage.publish({})
    assert (tmp_path / "out" / "Split-train" / "shard.gz").read_bytes() == b"records"
    for there in ("other", "file"):
        path = tmp_path / there
        path.mkdir() if there == "other" else path.write_text("here")
        if there == "other":
            (path / "letter.txt").write_text("mine")
        with pytest.raises(UserError, match=f"{there} holds something else"):
            Stage(str(path), "ingest.json").finished(ASKED)


def test_other_flags_or_images_are_refused_before_and_after(tmp_path):
    stage = Stage(str(tmp_path / "out"), "ingest.json")
    fill(stage)
    stage.start(ASKED)
    with pytest.raises(UserError, match=r"\.out\.work was started with other flags: --seed=1 \(recorded: 0\)"):
        stage.start({"seed": 1, "images": "abc"})
    with pytest.raises(UserError, match="other images"):
        stage.start({"seed": 0, "images": "xyz"})
    stage.publish({})
    with pytest.raises(UserError, match=r"/out was started with other flags: --seed=1 \(recorded: 0\)"):
        stage.finished({"seed": 1})


@pytest.mark.parametrize("step", ["_rename", "_clean_up"])
def test_a_stop_while_publishing_is_made_good(step, tmp_path, monkeypatch):
    stage = Stage(str(tmp_path / "out"), "ingest.json")
    fill(stage)
    with monkeypatch.context() as patch:
        patch.setattr(Stage, step, lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            stage.publish({"num_images": 1})
    assert (tmp_path / ".out.work").exists() and (tmp_path / "out").exists() == (step == "_clean_up")
    assert stage.finished({"seed": 0})["num_images"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_that_is_not_finished_is_not_seen(tmp_path):
    path = tmp_path / "folder" / "file"
    for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):
        with pytest.raises((UserError, KeyboardInterrupt)) as raised:
            with written_whole(str(path), beside=str(tmp_path / "scratch")) as scratch:
                open(scratch, "w").write("half")
                raise error
        assert not path.exists() and not list((tmp_path / "scratch").iterdir())
    with pytest.raises(UserError, match="No space left on device.*make room"):
        with written_whole(str(path), beside=str(tmp_path / "scratch")):
            raise OSError(28, "No space left on device")
    assert isinstance(raised.value, KeyboardInterrupt)


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="file.*could not be written"):
        Stage(str(tmp_path / "file" / "out"), "ingest.json").start(ASKED)


def test_a_bucket_is_written_through_tensorflow():
    """Its file system in memory stands for gs:// and others: it has no paths that Python could open."""
    stage = Stage("ram://bucket/archive/", "ingest.json")
    assert stage.output == "ram://bucket/archive" and stage.path == "ram://bucket/.archive.partial"
    fill(stage)
    assert not tf.io.gfile.exists(stage.output)
    stage.publish({"num_images": 2})
    with tf.io.gfile.GFile("ram://bucket/archive/Split-train/shard.gz", "rb") as file:
        assert file.read() == b"records"
    assert not tf.io.gfile.exists(stage.path) and not tf.io.gfile.exists(stage.work)
    assert stage.finished({"seed": 0})["num_images"] == 2
    with pytest.raises(UserError, match="has no folder above it"):
        Stage("gs://bucket", "ingest.json")
