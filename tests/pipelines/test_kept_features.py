"""Features of an encoder: computed once, kept, and never at the price of the encoder."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from small_road import fingerprint

from bitkeras.backbones.norm_swap import batch_norms
from bitkeras.data import read_source
from bitkeras.data.splits import Split, lesion_split, paper_split
from bitkeras.evaluation import features
from bitkeras.evaluation.feature_cache import FeatureCache
from bitkeras.runs import RunFolder
from pipelines import cli, encoder_scores, probe
from pipelines.encoder_scores import LABELLED_PARTS, EncoderScores

CONFIG = {"image_size": 16}


@pytest.fixture(scope="module")
def source(phantoms):
    return read_source("phantom", phantoms)


@pytest.fixture
def encoded(monkeypatch):
    """Number of images of each call of `encode`."""
    calls, encode = [], encoder_scores.encode

    def counted(encoder, batches):
        found = encode(encoder, batches)
        calls.append(len(found))
        return found

    monkeypatch.setattr(encoder_scores, "encode", counted)
    return calls


def small_encoder(seed=0):
    """A network with batch norm whose statistics are not those it starts with."""
    tf.keras.utils.set_random_seed(seed)
    images = tf.keras.Input([None, None, 3], name="images")
    norm = tf.keras.layers.BatchNormalization(name="norm")
    x = norm(tf.keras.layers.Conv2D(8, 3, name="conv")(images))
    norm.moving_mean.assign(tf.random.normal(norm.moving_mean.shape))
    return tf.keras.Model(images, tf.keras.layers.GlobalAveragePooling2D(name="features")(x), name="small")


def features_of(source, split, folder, encoder, **config):
    scores = EncoderScores({**CONFIG, **config}, {}, source, split, cache=FeatureCache(folder, say=print))
    return scores.features(encoder)


def test_a_second_look_encodes_nothing_and_each_ingredient_counts(source, tmp_path, encoded):
    split, encoder = paper_split(source, seed=0), small_encoder()
    first = features_of(source, split, tmp_path, encoder)
    sizes = [len(split.indices(part)) for part in LABELLED_PARTS]
    assert encoded == sizes and len(list(tmp_path.iterdir())) == 3
    again = features_of(source, split, tmp_path, small_encoder())
    assert encoded == sizes
    for part in LABELLED_PARTS:
        np.testing.assert_array_equal(first[part], again[part])
    features_of(source, split, tmp_path, small_encoder(seed=1))
    features_of(source, split, tmp_path, encoder, image_size=24)
    features_of(source, lesion_split(source, seed=1), tmp_path, encoder)
    assert len(encoded) == 12
    # One part with an image fewer is computed again, and only that part.
    fewer = Split(np.where(np.arange(len(source)) == split.indices("probe_train")[0], "unused", split.parts))
    features_of(source, fewer, tmp_path, encoder)
    assert encoded[12:] == [sizes[0] - 1]
    features_of(source, split, "", encoder)
    assert encoded[13:] == sizes


def test_an_image_of_other_pixels_is_encoded_again(phantoms, source, tmp_path, encoded):
    shutil.copytree(phantoms, tmp_path / "data")
    mine, split, encoder = read_source("phantom", tmp_path / "data"), paper_split(source, seed=0), small_encoder()
    before = features_of(mine, split, tmp_path / "kept", encoder)
    changed, other = split.indices("test")[0], split.indices("pretrain")[0]
    shutil.copy(mine.paths[other], mine.paths[changed])
    after = features_of(mine, split, tmp_path / "kept", encoder)
    assert encoded[3:] == [len(split.indices("test"))]
    moved = (before["test"] != after["test"]).any(axis=1)
    assert moved[0] and not moved[1:].any()


def test_an_encoder_in_training_mode_is_refused(source, tmp_path, monkeypatch):
    encoder = small_encoder()
    monkeypatch.setattr(features, "_compiled_step", lambda encoder: tf.function(lambda x: encoder(x, training=True)))
    with pytest.raises(RuntimeError, match="encoder moved while its features were computed"):
        features_of(source, paper_split(source, seed=0), tmp_path, encoder)


@pytest.mark.slow
def test_a_whole_probe_moves_nothing_of_the_encoder_and_a_second_one_encodes_nothing(
    road, tmp_path, monkeypatch, encoded, capsys
):
    run = RunFolder(tmp_path / "run")
    shutil.copytree(road.run_dir, run.path, ignore=shutil.ignore_patterns("probe", "single", "features"))
    found, find_encoder = [], probe.find_encoder

    def watched(*args):
        encoder = find_encoder(*args)
        found.append((encoder, [np.copy(variable.numpy()) for variable in encoder.variables]))
        return encoder

    monkeypatch.setattr(probe, "find_encoder", watched)
    before = fingerprint(run.path)["encoder.keras"]
    flags = [f"--run_dir={run.path}", "--epochs=5", "--trials=2", "--nofind_duplicates", "--lr_grid=0.001,1e-2"]
    cli.run("probe", flags)
    encoder, values = found[0]
    assert batch_norms(encoder) and len(values) == len(encoder.variables)
    for variable, value in zip(encoder.variables, values):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert fingerprint(run.path)["encoder.keras"] == before
    # The encoder and the random one.
    assert len(encoded) == 6
    cli.run("probe", [*flags, "--name=second", "--weight_decay_grid=0"])
    assert len(encoded) == 6
    told = (run.path / "second" / "report.md").read_text()
    assert "Best weight decay of the probe" in told
    recorded = json.loads((run.path / "second" / "config.json").read_text())
    assert (recorded["lr_grid"], recorded["weight_decay_grid"]) == ("0.001,0.01", None)
    # Damage is told, costs one more encoding, and changes no score.
    kept = sorted((run.path / "features").iterdir())
    assert len(kept) == 6
    kept[0].write_bytes(kept[0].read_bytes()[:-1])
    cli.run("probe", [*flags, "--name=third", "--weight_decay_grid=0"])
    assert len(encoded) == 7 and f"{kept[0]} are damaged" in capsys.readouterr().out
    assert len({(run.path / name / "scores.json").read_text() for name in ("second", "third")}) == 1
    edge = "the best rate, 0.01, is the largest of the grid"
    train = encoder_scores.train_linear_probe
    at_the_edge = lambda *args, **settings: dataclasses.replace(train(*args, **settings), grid_edges=(edge,))  # noqa: E731
    monkeypatch.setattr(encoder_scores, "train_linear_probe", at_the_edge)
    cli.run("probe", [*flags, "--name=fourth", "--weight_decay_grid=0", "--feature_cache=", "--nobaselines"])
    assert len(encoded) == 10
    assert f"{edge}; a longer grid may do better" in capsys.readouterr().out
    assert edge in (run.path / "fourth" / "report.md").read_text()


@pytest.mark.slow
def test_without_room_for_features_the_scores_are_the_same(road, tmp_path, monkeypatch, capsys):
    run = RunFolder(tmp_path / "run")
    shutil.copytree(road.run_dir, run.path, ignore=shutil.ignore_patterns("probe", "features"))

    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bitkeras.evaluation.feature_cache.written_atomically", full)
    flags = ["--trials=1", "--epochs=10", "--nobaselines", "--nofind_duplicates"]
    cli.run("probe", [f"--run_dir={run.path}", "--name=again", *flags])
    assert capsys.readouterr().out.count("No space left on device") == 3
    scores = [(run.path / name / "scores.json").read_text() for name in ("single", "again")]
    assert scores[0] == scores[1]
