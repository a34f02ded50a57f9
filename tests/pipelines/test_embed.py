"""`bitkeras embed`: features of an archive, from every kind of encoder, and what a stop leaves behind."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.archives.features import FeatureWriter
from bitkeras.backbones import build_backbone
from bitkeras.data import read_source
from bitkeras.data.batches import image_batches
from bitkeras.evaluation.features import encode
from export.predict import predict_files
from pipelines import cli

pytest.importorskip("apache_beam", reason="the extra beam is not installed")


def embed(data_dir, output_dir, encoder, *more: str) -> None:
    given = (f"--data_dir={data_dir}", f"--output_dir={output_dir}", f"--encoder={encoder}", "--images_per_shard=50")
    cli.run("embed", [*given, *more])


def fail(capfd, *arguments) -> str:
    """The one line that a command ends with that must fail."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["embed", *map(str, arguments)])
    (line,) = capfd.readouterr().err.splitlines()
    assert stopped.value.code in (1, 2)
    return line


def read(folder: Path) -> dict[str, np.ndarray]:
    """All shards, in the order of their names."""
    shards = [np.load(path) for path in sorted(folder.glob("features-*.npz"))]
    return {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}


@pytest.fixture(scope="module")
def encoder_path(tmp_path_factory) -> Path:
    """A small network whose layers Keras does not know: GN with standardised kernels."""
    tf.keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("encoder") / "encoder.keras"
    build_backbone("R14x0.25", norm="group", stem="cifar").save(path)
    return path


@pytest.fixture(scope="module")
def embedded(phantoms, encoder_path, tmp_path_factory) -> Path:
    """The features of 120 phantoms in three shards; to be read and not changed."""
    output = tmp_path_factory.mktemp("embedded") / "features"
    embed(phantoms, output, encoder_path, "--image_size=32")
    return output


def test_features_are_those_of_the_encoder_in_the_order_of_the_source(embedded, phantoms, encoder_path):
    source, found = read_source("ham10000", phantoms), read(embedded)
    batches = image_batches(source, np.arange(120), image_size=32, batch_size=40)
    expected = encode(tf.keras.models.load_model(encoder_path), batches)
    assert found.keys() == {"image_ids", "features", "classes"}
    assert found["image_ids"].tolist() == source.image_ids.tolist()
    assert found["classes"].tolist() == [source.class_names[label] for label in source.labels]
    assert found["features"].shape == (120, 512) and found["features"].dtype == np.float32
    np.testing.assert_allclose(found["features"], expected, rtol=1e-4, atol=1e-5)
    assert expected.std(axis=0).mean() > 1e-3
    assert {path.name for path in embedded.iterdir()} == {
        *(f"features-{n:05d}-of-00003.npz" for n in range(3)),
        "embed.json",
    }
    told = json.loads((embedded / "embed.json").read_text())
    assert (told["num_images"], told["num_features"], told["num_bad_images"]) == (120, 512, 0)


def test_batch_and_workers_change_nothing_but_rounding(embedded, phantoms, encoder_path, tmp_path):
    embed(phantoms, tmp_path / "out", encoder_path, "--image_size=32", "--batch_size=7", "--num_workers=2")
    ours, other = read(tmp_path / "out"), read(embedded)
    assert ours["image_ids"].tolist() == other["image_ids"].tolist()
    np.testing.assert_allclose(ours["features"], other["features"], rtol=1e-4, atol=1e-5)


def test_unlabelled_images_have_no_classes(phantoms, encoder_path, tmp_path):
    embed(phantoms, tmp_path / "out", encoder_path, "--image_size=16", "--dataset=unlabelled_folder")
    found = read(tmp_path / "out")
    assert found.keys() == {"image_ids", "features"} and len(found["image_ids"]) == 120


def test_bad_images_are_named_and_skip_goes_without_them(phantoms, encoder_path, tmp_path, capfd, embedded):
    shutil.copytree(phantoms, tmp_path / "data")
    image = sorted((tmp_path / "data").rglob("*.jpg"))[60]
    image.write_bytes(image.read_bytes()[:400])
    given = [f"--data_dir={tmp_path / 'data'}", f"--output_dir={tmp_path / 'out'}", f"--encoder={encoder_path}"]
    given += ["--image_size=32", "--images_per_shard=50"]
    line = fail(capfd, *given)
    assert str(image) in line and "--on_bad_image=skip" in line and not (tmp_path / "out").exists()
    cli.run("embed", [*given, "--on_bad_image=skip"])
    # The shards without a bad image stay from the first time.
    assert "3 shards, going on after 2 of them" in capfd.readouterr().out
    found, expected = read(tmp_path / "out"), read(embedded)
    kept = expected["image_ids"] != image.stem
    assert kept.sum() == 119 and found["image_ids"].tolist() == expected["image_ids"][kept].tolist()
    np.testing.assert_allclose(found["features"], expected["features"][kept], rtol=1e-4, atol=1e-5)
    assert str(image) in (tmp_path / "out" / "bad_images.csv").read_text()


def test_a_stopped_embedding_goes_on_with_the_missing_shards(
    phantoms, encoder_path, tmp_path, capfd, embedded, monkeypatch
):
    write, done = FeatureWriter.__call__, []

    def stop_at_second(self, shard):
        if done:
            raise OSError(28, "No space left on device")
        write(self, shard)
        done.append(shard)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureWriter, "__call__", stop_at_second)
        given = [f"--data_dir={phantoms}", f"--output_dir={tmp_path / 'out'}", f"--encoder={encoder_path}"]
        line = fail(capfd, *given, "--image_size=32", "--images_per_shard=50")
    assert "No space left" in line and not (tmp_path / "out").exists()
    kept = (tmp_path / ".out.partial" / done[0]).stat().st_mtime_ns
    embed(phantoms, tmp_path / "out", encoder_path, "--image_size=32")
    assert "going on after 1 of them" in capfd.readouterr().out
    assert (tmp_path / "out" / done[0]).stat().st_mtime_ns == kept
    np.testing.assert_allclose(read(tmp_path / "out")["features"], read(embedded)["features"], rtol=1e-4, atol=1e-5)


def test_another_encoder_or_size_is_not_gone_on_with(embedded, phantoms, encoder_path, tmp_path, capfd):
    given = [f"--data_dir={phantoms}", f"--output_dir={embedded}", "--images_per_shard=50"]
    line = fail(capfd, *given, f"--encoder={encoder_path}", "--image_size=16")
    assert "--image_size=16 (recorded: 32)" in line
    tf.keras.utils.set_random_seed(1)
    build_backbone("R14x0.25", norm="group", stem="cifar").save(tmp_path / "encoder.keras")
    line = fail(capfd, *given, f"--encoder={tmp_path / 'encoder.keras'}", "--image_size=32")
    assert "--encoder=" in line
    embed(phantoms, embedded, encoder_path, "--image_size=32")
    assert "already finished (120 images)" in capfd.readouterr().out


def test_an_encoder_may_lie_in_a_bucket(embedded, phantoms, encoder_path, tmp_path, capfd):
    """TensorFlow's file system in memory stands for gs:// and others."""
    place = "ram://bucket/run/encoder.keras"
    tf.io.gfile.makedirs("ram://bucket/run")
    tf.io.gfile.copy(str(encoder_path), place, overwrite=True)
    embed(phantoms, tmp_path / "out", place, "--image_size=32")
    np.testing.assert_allclose(read(tmp_path / "out")["features"], read(embedded)["features"], rtol=1e-4, atol=1e-5)
    given = [f"--data_dir={phantoms}", f"--output_dir={tmp_path / 'other'}"]
    assert "pass it as --image_size" in fail(capfd, *given, f"--encoder={place}")
    assert "in a bucket, pass one" in fail(capfd, *given, "--encoder=ram://bucket/run", "--image_size=32")


def test_what_is_no_encoder_is_named(phantoms, encoder_path, tmp_path, capfd):
    given = [f"--data_dir={phantoms}", f"--output_dir={tmp_path / 'out'}"]
    (tmp_path / "letter.txt").write_text("no encoder")
    (tmp_path / "bad.keras").write_text("no encoder")
    (tmp_path / "folder").mkdir()
    wrong = {
        f"--encoder={tmp_path / 'nowhere'}": "no run folder, .keras file or pushed SavedModel",
        f"--encoder={tmp_path / 'letter.txt'}": "no run folder, .keras file or pushed SavedModel",
        f"--encoder={tmp_path / 'folder'}": "is no run folder",
        f"--encoder={encoder_path}": "pass it as --image_size",
    }
    for flag, told in wrong.items():
        assert told in fail(capfd, *given, flag)
    assert "cannot be loaded" in fail(capfd, *given, f"--encoder={tmp_path / 'bad.keras'}", "--image_size=32")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_its_file_and_what_was_pushed_give_the_same_features(road, tmp_path, capfd):
    encoders = {
        "run": road.run_dir,
        "file": road.run_dir / "encoder.keras",
        "pushed": road.push_dir,
        "version": road.push_dir / "1",
    }
    for name, encoder in encoders.items():
        embed(road.data_dir, tmp_path / name, encoder)
    found = {name: read(tmp_path / name) for name in encoders}
    source = read_source("ham10000", road.data_dir)
    served = np.array([answer["embedding"] for answer in predict_files(road.push_dir / "1", source.paths)])
    for one in found.values():
        assert one["image_ids"].tolist() == source.image_ids.tolist()
        np.testing.assert_allclose(one["features"], served, rtol=1e-4, atol=1e-5)
    given = [f"--data_dir={road.data_dir}", f"--output_dir={tmp_path / 'out'}", f"--encoder={road.push_dir}"]
    assert "has its own; leave it out" in fail(capfd, *given, "--image_size=32")


@pytest.mark.slow
def test_features_that_are_not_finite_are_an_error(phantoms, encoder_path, tmp_path, capfd):
    encoder = tf.keras.models.load_model(encoder_path)
    kernel = encoder.trainable_variables[0]
    kernel.assign(tf.fill(kernel.shape, np.nan))
    encoder.save(tmp_path / "encoder.keras")
    given = [f"--data_dir={phantoms}", f"--output_dir={tmp_path / 'out'}", f"--encoder={tmp_path / 'encoder.keras'}"]
    line = fail(capfd, *given, "--image_size=32")
    assert "not finite" in line and not (tmp_path / "out").exists()
