"""One epoch of each choice that the shared run does not make."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from small_road import WORDS, pretrain_flags

from bitkeras.backbones import build_backbone
from bitkeras.backbones.checkpoints import graph_variables
from bitkeras.backbones.layers import GroupNormalization, StandardizedConv2D
from bitkeras.callbacks import Throughput
from bitkeras.data import read_source
from bitkeras.data.cifar10 import CIFAR10_CLASSES
from bitkeras.errors import UserError
from bitkeras.runs import RunFolder
from pipelines import cli

pytestmark = pytest.mark.slow

HUGE_SCALE = 2.0**36

QUICK_PROBE = ["--epochs=5", "--trials=1", "--nobaselines"]


def pretrained(data_dir, run_dir, *more):
    cli.run("pretrain", pretrain_flags(data_dir, run_dir, "--epochs=1", *more))
    run = RunFolder(run_dir)
    numbers = [value for row in run.metrics() for name, value in row.items() if name not in WORDS]
    assert run.is_finished and np.isfinite(numbers).all()
    return run


def released_weights(path):
    """A small network's random weights under the names of the released files; returns its root kernel."""
    named = {}
    for name, variable in graph_variables(build_backbone("R14x0.25", norm="group")).items():
        name = name.replace("conv/", "standardized_conv2d/").replace("norm/", "group_norm/")
        named[f"resnet/{name}"] = variable.numpy()
    named["resnet/head/conv2d/kernel"] = np.zeros([1, 1, 512, 1000], np.float32)
    named["resnet/head/conv2d/bias"] = np.zeros([1000], np.float32)
    np.savez(path, **named)
    return named["resnet/root_block/standardized_conv2d/kernel"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--norm=group", "--stem=cifar", "--split=lesion", "--warmup_epochs=1"],
        ["--views=keras_cv", "--fix_predictor_lr", "--precision=mixed_float16"],
        ["--precision=mixed_float16", "--optimizer=lamb"],
    ],
    ids=" ".join,
)
def test_a_choice_trains_and_leaves_a_float32_encoder(phantoms, tmp_path, flags):
    run = pretrained(phantoms, tmp_path, *flags)
    encoder = tf.keras.models.load_model(run.encoder_path)
    assert {layer.dtype_policy.name for layer in encoder.layers} == {"float32"}
    assert any(isinstance(layer, GroupNormalization) for layer in encoder.layers) == ("--norm=group" in flags)
    assert tf.keras.mixed_precision.global_policy().name == "float32"


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_released_weights_are_the_start(phantoms, tmp_path, norm):
    root_kernel = released_weights(tmp_path / "BiT.npz")
    # A rate of almost nothing: what comes out is what went in.
    run = pretrained(
        *(phantoms, tmp_path / "run", f"--weights={tmp_path / 'BiT.npz'}", f"--norm={norm}"),
        *("--base_lr=1e-9", "--weight_decay=0"),
    )
    encoder = tf.keras.models.load_model(run.encoder_path)
    np.testing.assert_allclose(encoder.get_layer("root_block_conv").kernel, root_kernel, atol=1e-6)
    assert any(isinstance(layer, StandardizedConv2D) for layer in encoder.layers) == (norm == "group")
    if norm == "batch":
        cli.run("probe", [f"--run_dir={run.path}", "--epochs=5", "--trials=1"])
        report = (run.path / "probe" / "report.md").read_text()
        assert "simsiam from BiT.npz" in report
        assert "the same network before pre-training, calibrated (baseline)" in report


def class_folders(phantoms, root, names):
    """Phantoms as `root/<class>/*.jpg`, `names[label]` being the class."""
    source = read_source("ham10000", phantoms)
    for image_id, path, label in zip(source.image_ids, source.paths, source.labels):
        (root / names[label]).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / names[label] / f"{image_id}.jpg")


def test_an_unlabelled_folder_is_pretrained_without_knn_and_probed_on_labelled_images(phantoms, tmp_path):
    run = pretrained(phantoms, tmp_path, "--dataset=unlabelled_folder")
    for row in run.metrics():
        assert not [name for name in row if name.startswith("knn")] and row["spread"] > 0
    assert run.split_path.read_text().count(",pretrain") == 120
    with pytest.raises(UserError, match="no labels") as error:
        cli.run("probe", [f"--run_dir={tmp_path}"])
    assert "\n" not in str(error.value) and not (run.path / "probe").exists()
    with pytest.raises(UserError, match="say where with --data_dir"):
        cli.run("probe", [f"--run_dir={tmp_path}", "--dataset=ham10000"])
    labelled = ["--dataset=ham10000", f"--data_dir={phantoms}", "--split=lesion"]
    cli.run("probe", [f"--run_dir={tmp_path}", *labelled, *QUICK_PROBE])
    # The probe's own split, by lesion; the run's has no test part.
    lines = (run.path / "probe" / "split.csv").read_text().splitlines()[1:]
    of_lesion = {}
    for _, lesion, _, part in (line.split(",") for line in lines):
        of_lesion.setdefault(lesion, set()).add(part)
    assert len(lines) == 120 and all(len(parts) == 1 for parts in of_lesion.values())
    # No lesion is cut in two, and yet the encoder was pre-trained on every image of the test part.
    leakage = json.loads((run.path / "probe" / "leakage.json").read_text())
    assert leakage["sisters"]["overall"] == 0 and leakage["near_duplicates"]["by_part"]["pretrain"] == 1
    cli.run("push", [f"--run_dir={tmp_path}", f"--push_dir={tmp_path / 'served'}"])
    assert (tmp_path / "served" / "1" / "saved_model.pb").is_file()


def test_class_folders_are_pretrained_and_probed(phantoms, tmp_path):
    names = [f"kind {label}" for label in range(7)]
    class_folders(phantoms, tmp_path / "data", names)
    run = pretrained(tmp_path / "data", tmp_path / "run", "--dataset=image_folder")
    shutil.move(tmp_path / "data", tmp_path / "moved")
    cli.run("probe", [f"--run_dir={run.path}", f"--data_dir={tmp_path / 'moved'}", "--nofind_duplicates", *QUICK_PROBE])
    header = (run.path / "probe" / "predictions.csv").read_text().splitlines()[0]
    assert header.split(",")[2:] == [f"probability_{name}" for name in names]


def test_cifar10_keeps_its_test_part(phantoms, tmp_path):
    for part in ("train", "test"):
        class_folders(phantoms, tmp_path / "data" / part, CIFAR10_CLASSES[:7])
    more = ["--dataset=cifar10", "--stem=cifar", "--views=cifar", "--precision=mixed_bfloat16", "--find_duplicates"]
    run = pretrained(tmp_path / "data", tmp_path / "run", *more)
    cli.run("probe", [f"--run_dir={run.path}", *QUICK_PROBE])
    predicted = (run.path / "probe" / "predictions.csv").read_text().splitlines()[1:]
    assert len(predicted) == 120 and all(line.startswith("test/") for line in predicted)
    # Each test image is a copy of one to train on.
    near = json.loads((run.path / "leakage.json").read_text())["near_duplicates"]
    assert near["overall"] == 1 and near["pairs"][0]["cosine"] > 0.999
    assert json.loads((run.path / "probe" / "leakage.json").read_text())["near_duplicates"] == near


def test_half_precision_survives_an_overflow(phantoms, tmp_path, monkeypatch):
    """From a scale that overflows the scale halves, step by step, without a weight being touched, until one is."""
    scales, counted = [], []

    def begin(self, epoch, logs=None):
        start(self, epoch, logs)
        if epoch == 0:
            self.model.optimizer._loss_scale._current_loss_scale.assign(HUGE_SCALE)

    def end(self, epoch, logs=None):
        finish(self, epoch, logs)
        scales.append(float(self.model.optimizer.loss_scale))
        counted.append(int(self.model.optimizer.iterations))

    start, finish = Throughput.on_epoch_begin, Throughput.on_epoch_end
    monkeypatch.setattr(Throughput, "on_epoch_begin", begin)
    monkeypatch.setattr(Throughput, "on_epoch_end", end)
    run = pretrained(phantoms, tmp_path / "run", "--precision=mixed_float16", "--epochs=5")
    # A step that overflows counts as a step of the schedule.
    assert counted[-1] == 20
    overflows = np.log2(HUGE_SCALE / scales[-1])
    assert overflows in range(1, 20)
    weights = tf.keras.models.load_model(run.encoder_path).get_weights()
    assert all(np.isfinite(weight).all() for weight in weights)
