"""BiT trained from scratch on two colours of noise: what is learned, what is written, who reads it."""

import json
import signal

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_hub as hub
from small_road import pretrain_flags, run_process
from test_resume import DIE_IN_EPOCH_2

from bitkeras.backbones import build_backbone
from bitkeras.backbones.checkpoints import assign_weights, read_weights
from bitkeras.data import read_source
from bitkeras.data.batches import image_batches
from bitkeras.data.split_files import load_split
from bitkeras.errors import UserError
from bitkeras.evaluation.features import encode
from bitkeras.runs import RunFolder
from pipelines import cli


def flags(data_dir, run_dir, *more):
    small = ["--backbone=R14x0.25", "--image_size=32", "--batch_size=16", "--epochs=3", "--min_crop_area=0.5"]
    paths = [f"--data_dir={data_dir}", f"--run_dir={run_dir}"]
    return ["--dataset=image_folder", *paths, *small, "--base_lr=0.5", "--precision=float32", *more]


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Two folders of 70 reddish and 70 bluish images of noise."""
    folder, rng = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for name, tint in (("blue", [0, 0, 120]), ("red", [120, 0, 0])):
        (folder / name).mkdir()
        for n in range(70):
            image = (rng.integers(0, 130, [40, 50, 3]) + tint).astype(np.uint8)
            (folder / name / f"{name}{n}.jpg").write_bytes(tf.io.encode_jpeg(image).numpy())
    return folder


@pytest.fixture(scope="module")
def trained(colours, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("upstream") / "run"
    cli.run("upstream", flags(colours, run_dir, "--test_every=2"))
    return run_dir


def test_the_numbers_of_a_run(trained):
    rows = RunFolder(trained).metrics()
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"] and rows[-1]["test_accuracy"] > 0.9
    assert ["test_accuracy" in row for row in rows] == [False, True, True]


def test_all_three_files_hold_the_network_whose_accuracy_was_told(trained, colours):
    source = read_source("image_folder", colours)
    test = load_split(trained / "split.csv", source).indices("test")
    images = np.concatenate(list(image_batches(source, test, image_size=32, batch_size=16)))
    weights = read_weights(trained / "weights.npz")
    network = build_backbone("R14x0.25", num_classes=len(source.class_names))
    assign_weights(network, weights)
    logits = network(images).numpy()
    told = RunFolder(trained).metrics()[-1]["test_accuracy"]
    assert np.mean(logits.argmax(1) == source.labels[test]) == pytest.approx(told)
    module = hub.load(str(trained / "hub_module"))
    np.testing.assert_allclose(np.reshape(module((images + 1) / 2), logits.shape), logits, atol=1e-4)
    headless = build_backbone("R14x0.25")
    headless.set_weights(tf.keras.models.load_model(trained / "encoder.keras").get_weights())
    classify = tf.keras.Model(network.input, network.get_layer("features").output)
    np.testing.assert_allclose(encode(headless, [images]), classify(images), atol=1e-4)


@pytest.mark.parametrize("given", ["", "weights.npz", "hub_module", "encoder.keras"])
def test_pretrain_starts_from_each_of_them(trained, colours, tmp_path, given, capsys):
    more = ("--dataset=image_folder", "--epochs=0", "--norm=group", f"--weights={trained / given}")
    cli.run("pretrain", pretrain_flags(colours, tmp_path / "run", *more))
    started = tf.keras.models.load_model(tmp_path / "run" / "encoder.keras")
    expected = tf.keras.models.load_model(trained / "encoder.keras")
    for one, other in zip(started.get_weights(), expected.get_weights()):
        np.testing.assert_array_equal(one, other)
    # Both splits have seed 0, so the test images are the same ones; with another seed some were trained on.
    record = json.loads((tmp_path / "run" / "weights.json").read_text())
    assert record["num_seen_test_images"] == 0 and (record["agreement"] is None) == (given != "hub_module")


def test_weights_that_were_trained_on_test_images_are_told(trained, colours, tmp_path, capsys):
    run_dir = tmp_path / "run"
    more = ("--dataset=image_folder", "--seed=1", "--epochs=0", "--norm=group", f"--weights={trained}")
    cli.run("pretrain", pretrain_flags(colours, run_dir, *more))
    parts = [load_split(folder / "split.csv", read_source("image_folder", colours)) for folder in (trained, run_dir)]
    shared = len(set(parts[0].indices("pretrain")) & set(parts[1].indices("test")))
    assert shared > 0 and f"trained on {shared} of the 28 test images" in capsys.readouterr().out


def test_a_probe_of_an_upstream_run_is_told_the_way(trained):
    with pytest.raises(UserError, match="pretrain --weights=.* --norm=group --epochs=0"):
        cli.run("probe", [f"--run_dir={trained}"])
    assert not (trained / "probe").exists()


@pytest.mark.slow
def test_a_killed_run_ends_where_an_uninterrupted_one_does(trained, colours, tmp_path, capsys):
    killed = tmp_path / "run"
    done = run_process("upstream", *flags(colours, killed, "--test_every=2"), code=DIE_IN_EPOCH_2)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not RunFolder(killed).is_finished
    cli.run("upstream", flags(colours, killed, "--test_every=2"))
    assert "going on after epoch 1 of 3" in capsys.readouterr().out
    resumed, uninterrupted = (read_weights(folder / "weights.npz") for folder in (killed, trained))
    assert resumed.keys() == uninterrupted.keys()
    for name, value in resumed.items():
        np.testing.assert_allclose(value, uninterrupted[name], rtol=1e-4, atol=1e-5)
    cli.run("upstream", flags(colours, killed, "--test_every=2"))
    assert "already finished" in capsys.readouterr().out


def test_images_without_labels_are_refused(colours, tmp_path):
    with pytest.raises(UserError, match="no labels to train on.*image_folder"):
        cli.run("upstream", [*flags(colours, tmp_path / "run"), "--dataset=unlabelled_folder"])
    assert not (tmp_path / "run").exists()
