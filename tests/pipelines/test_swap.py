"""From GN weights to a BN encoder, its retention report, its calibration, and what is served in the end."""

import hashlib
import json

import numpy as np
import pytest
import tensorflow as tf
from small_road import pretrain_flags

from bitkeras.backbones import build_backbone
from bitkeras.backbones.checkpoints import graph_variables
from bitkeras.backbones.layers import StandardizedConv2D
from bitkeras.backbones.norm_swap import batch_norms
from bitkeras.backbones.released import write_hub_module
from bitkeras.backbones.stages import stage_features
from bitkeras.data import read_source
from bitkeras.data.batches import image_batches
from bitkeras.data.split_files import load_split
from bitkeras.errors import UserError
from bitkeras.evaluation.similarity import linear_cka
from bitkeras.runs import RunFolder
from export.predict import predict_files
from pipelines import cli

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def original():
    """A GN network that was not trained, but whose affine weights are not the default ones."""
    tf.keras.utils.set_random_seed(1)
    model = build_backbone("R14x0.25", norm="group", num_classes=5)
    rng = np.random.default_rng(0)
    for name, variable in graph_variables(model).items():
        # The head starts at zero, where a module would agree with anything.
        if "norm/" in name or "head/" in name:
            variable.assign_add(rng.normal(0, 0.3, variable.shape))
    return model


@pytest.fixture(scope="module")
def hub_module(original, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "module"
    write_hub_module(original, folder, head=True)
    return folder


def untrained(phantoms, run_dir, hub_module, *more):
    flags = [flag for flag in pretrain_flags(phantoms, run_dir, "--epochs=0", f"--weights={hub_module}", *more)]
    cli.run("pretrain", flags)
    return RunFolder(run_dir)


def pretraining_images(run, phantoms):
    source = read_source("ham10000", phantoms)
    indices = load_split(run.split_path, source).indices("pretrain")
    return np.concatenate(list(image_batches(source, indices, image_size=32, batch_size=8)))


def record(run, name):
    return json.loads((run.path / name).read_text())


@pytest.fixture(scope="module")
def preserved(phantoms, hub_module, tmp_path_factory):
    # 72 images are for pre-training: a preset takes what there is.
    return untrained(phantoms, tmp_path_factory.mktemp("swap") / "run", hub_module, "--swap=preserve")


def test_no_epoch_leaves_a_finished_run_with_the_numbers_of_its_start(preserved):
    assert preserved.is_finished and [row["epoch"] for row in preserved.metrics()] == [0]
    assert {path.name for path in preserved.path.iterdir()} == {
        *("config.json", "split.csv", "leakage.json", "metrics.jsonl", "tensorboard", "encoder.keras"),
        *("weights.json", "retention.json"),
    }
    config = preserved.config()
    recorded = {"backbone": "R14x0.25", "stem": "imagenet", "swap": "preserve", "ws": "fold", "bn_init": "match"}
    assert config.items() >= recorded.items() and config["stem_init"] is None


def test_the_agreement_with_the_module_is_recorded(preserved, original):
    known = record(preserved, "weights.json")
    named = sorted((name, variable.numpy()) for name, variable in graph_variables(original).items())
    held = b"".join(name.encode() + value.tobytes() for name, value in named)
    assert known["sha256"] == hashlib.sha256(held).hexdigest()
    assert known["norm"] == "group" and known["backbone"] == "R14x0.25"
    assert known["agreement"]["input_range"] == "[0, 1]" and known["agreement"]["num_images"] == 8
    assert known["agreement"]["max_relative_difference"] < 1e-3 and known["agreement"]["distinct"]


def test_retention_is_that_of_the_two_networks(preserved, original, phantoms):
    report = record(preserved, "retention.json")
    assert report["num_images"] == 72 and report["swap"] == {"ws": "fold", "bn_init": "match", "bn_calibrate": 256}
    images = pretraining_images(preserved, phantoms)
    encoder = tf.keras.models.load_model(preserved.encoder_path)
    before, after = (stage_features(network, [images]) for network in (original, encoder))
    for stage, measures in report["stages"].items():
        assert set(measures) == {"cosine", "cosine_centred", "cka"}
        if stage != "overall":
            assert measures["cka"] == pytest.approx(linear_cka(before[stage], after[stage]), abs=1e-3)
    # The root holds no norm, and folded kernels are the standardised ones.
    assert report["stages"]["root"] == pytest.approx({"cosine": 1, "cosine_centred": 1, "cka": 1}, abs=1e-4)
    knn = report["knn_balanced_accuracy"]
    assert 0 <= knn["before"] <= 1 and 0 <= knn["after"] <= 1 and (knn["num_bank"], knn["num_queries"]) == (12, 12)
    assert knn["after"] == preserved.metrics()[0]["knn_balanced_accuracy"]


def test_statistics_are_those_of_the_images(preserved, phantoms):
    images = pretraining_images(preserved, phantoms)
    encoder = tf.keras.models.load_model(preserved.encoder_path)
    for layer in batch_norms(encoder):
        x = tf.keras.Model(encoder.input, layer.input)(images, training=False).numpy()
        x = np.float64(x).reshape(-1, x.shape[-1])
        np.testing.assert_allclose(x.mean(0), layer.moving_mean, atol=1e-3 * x.std())
        np.testing.assert_allclose(x.var(0), layer.moving_variance, rtol=1e-3, atol=1e-6)


def test_keeping_under_half_precision_saves_a_float32_graph_that_standardises(phantoms, hub_module, tmp_path, original):
    more = ["--ws=keep", "--bn_init=copy", "--bn_calibrate=24", "--precision=mixed_bfloat16", "--stem=cifar"]
    run = untrained(phantoms, tmp_path, hub_module, *more, "--stem_init=crop")
    encoder = tf.keras.models.load_model(run.encoder_path)
    assert {layer.dtype_policy.name for layer in encoder.layers} == {"float32"}
    assert sum(isinstance(layer, StandardizedConv2D) for layer in encoder.layers) == 17
    root = original.get_layer("root_block_conv").kernel.numpy()
    np.testing.assert_array_equal(encoder.get_layer("root_block_conv").kernel, root[2:5, 2:5])
    assert record(run, "retention.json")["stages"]["root"]["cka"] == pytest.approx(1, abs=1e-4)


def test_features_that_are_not_finite_are_told(phantoms, original, tmp_path, capsys):
    large = {name: variable.numpy() for name, variable in graph_variables(original).items()}
    named = {f"resnet/{name}": value * 1e3 if name.endswith("kernel") else value for name, value in large.items()}
    named = {
        name.replace("conv/", "standardized_conv2d/").replace("norm/", "group_norm/"): v for name, v in named.items()
    }
    np.savez(tmp_path / "large.npz", **named)
    run = untrained(phantoms, tmp_path / "run", tmp_path / "large.npz")
    report = record(run, "retention.json")
    assert set(report["stages"]["features"].values()) == {None} and report["stages"]["root"]["cka"] is not None
    assert report["knn_balanced_accuracy"]["after"] is None and report["knn_balanced_accuracy"]["before"] is not None
    assert "no number" in capsys.readouterr().out and not run.metrics()
    # What the images say about it makes it useful.
    flags = [f"--run_dir={run.path}", "--epochs=5", "--trials=1", "--nobaselines"]
    with pytest.raises(FloatingPointError, match="calibrated"):
        cli.run("probe", flags)
    cli.run("probe", [*flags, "--name=calibrated", "--bn_calibrate=72"])


def test_the_probe_serves_the_encoder_it_calibrated(preserved, phantoms, tmp_path):
    flags = [f"--run_dir={preserved.path}", "--name=again", "--epochs=5", "--trials=1", "--bn_calibrate=30"]
    cli.run("probe", flags)
    folder = preserved.path / "again"
    paths = [preserved.encoder_path, folder / "encoder.keras"]
    plain, calibrated = (tf.keras.models.load_model(path) for path in paths)
    statistics = [network.get_layer("norm").moving_mean.numpy() for network in (plain, calibrated)]
    assert np.abs(statistics[0] - statistics[1]).max() > 1e-3
    cli.run("push", [f"--run_dir={preserved.path}", "--name=again", f"--push_dir={tmp_path}"])
    lines = (folder / "predictions.csv").read_text().splitlines()[1:4]
    predicted = [list(map(float, line.split(",")[2:])) for line in lines]
    source = read_source("ham10000", phantoms)
    test = load_split(preserved.split_path, source).indices("test")[:3]
    answers = predict_files(tmp_path / "1", source.paths[test])
    served = [list(answer["probabilities"].values()) for answer in answers]
    np.testing.assert_allclose(served, predicted, atol=1e-4)
    report = (folder / "report.md").read_text()
    assert ", not trained on" in report and "before pre-training" not in report
    # The commands in the report can be typed.
    for line in report.splitlines():
        if line.startswith(("bitkeras pretrain", "bitkeras probe")):
            cli.run(line.split()[1], line.split()[2:])
    with pytest.raises(UserError, match="holds 72 images"):
        cli.run("probe", [*flags[:1], "--name=many", "--bn_calibrate=73"])
    assert not (preserved.path / "many").exists()


def test_bit_as_it_is_has_nothing_to_swap_or_calibrate(phantoms, hub_module, tmp_path, original):
    run = untrained(phantoms, tmp_path, hub_module, "--norm=group")
    assert not (run.path / "retention.json").exists() and (run.path / "weights.json").exists()
    encoder = tf.keras.models.load_model(run.encoder_path)
    images = pretraining_images(run, phantoms)
    features = tf.keras.Model(original.input, original.get_layer("features").output)
    np.testing.assert_allclose(encoder(images), features(images), rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="this encoder has none"):
        cli.run("probe", [f"--run_dir={run.path}", "--bn_calibrate=9"])
    assert not (run.path / "probe").exists()


def test_a_run_starts_from_the_encoder_of_another(phantoms, preserved, tmp_path):
    run = untrained(phantoms, tmp_path / "run", preserved.path)
    before, after = (tf.keras.models.load_model(other.encoder_path) for other in (preserved, run))
    for old, new in zip(before.get_weights(), after.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert not (run.path / "retention.json").exists()
    with pytest.raises(UserError, match="have batch norm already"):
        untrained(phantoms, tmp_path / "other", preserved.path, "--swap=preserve")
    assert not (tmp_path / "other").exists()


def test_a_started_run_goes_on_without_its_weights(phantoms, hub_module, tmp_path, original):
    np.savez(tmp_path / "w.npz", **{f"resnet/{n}": v.numpy() for n, v in graph_variables(original).items()})
    flags = pretrain_flags(phantoms, tmp_path / "run", f"--weights={tmp_path / 'w.npz'}", "--swap=preserve")
    cli.run("pretrain", flags)
    (tmp_path / "run" / "encoder.keras").unlink()
    (tmp_path / "w.npz").unlink()
    cli.run("pretrain", flags)
    run = RunFolder(tmp_path / "run")
    assert run.is_finished and [row["epoch"] for row in run.metrics()] == [0, 1, 2]
    assert record(run, "retention.json")["num_images"] == 72


def test_runs_stand_side_by_side_if_they_share_the_split(phantoms, hub_module, tmp_path, preserved):
    frozen = untrained(phantoms, tmp_path / "frozen", hub_module, "--norm=group")
    other = untrained(phantoms, tmp_path / "other", hub_module, "--norm=group", "--seed=5")
    flags = [f"--run_dir={preserved.path}", "--epochs=5", "--trials=1", "--nobaselines"]
    cli.run("probe", [*flags, "--name=beside", f"--beside={frozen.path}"])
    rows = json.loads((preserved.path / "beside" / "scores.json").read_text())
    assert len(rows) == 2 and rows[1]["name"].endswith(f", frozen ({frozen.path.name})")
    assert not any(row.get("baseline") for row in rows)
    cli.run("probe", [f"--run_dir={frozen.path}", *flags[1:], "--name=alone"])
    alone = json.loads((frozen.path / "alone" / "scores.json").read_text())[0]
    assert alone["balanced_accuracy"] == rows[1]["balanced_accuracy"] and alone["interval"] == rows[1]["interval"]
    for refused, beside in (("another split", other.path), ("does not exist", tmp_path / "nowhere")):
        with pytest.raises(UserError, match=refused):
            cli.run("probe", [*flags, "--name=refused", f"--beside={beside}"])
    with pytest.raises(UserError, match="leave out one of the two"):
        cli.run("probe", [*flags, "--name=refused", f"--beside={frozen.path}", "--bn_calibrate=20"])
    assert not (preserved.path / "refused").exists()
