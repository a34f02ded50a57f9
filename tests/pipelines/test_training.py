"""The parts of a training command together: another method, less memory, TensorBoard, a verdict that ends the run."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf
from small_road import pretrain_flags

from bitkeras.callbacks import checkpoint, sentinel
from bitkeras.evaluation.verdict import COMPLETE_COLLAPSE, HEALTHY, Verdict
from bitkeras.runs import RunFolder
from pipelines import cli

pytestmark = pytest.mark.slow


def summary_tags(folder):
    return {
        value.tag
        for file in folder.glob("events*")
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }


@pytest.fixture(scope="module")
def byol_run(phantoms, tmp_path_factory):
    """BiT's own norm under BYOL, with activations computed again."""
    run = RunFolder(tmp_path_factory.mktemp("byol") / "run")
    more = ["--method=byol", "--norm=group", "--num_hidden=32", "--recompute", "--profile_steps=2,3"]
    cli.run("pretrain", pretrain_flags(phantoms, run.path, *more))
    return run


def test_byol_keeps_group_norm(byol_run):
    config = byol_run.config()
    assert (config["method"], config["norm"], config["base_tau"], config["temperature"]) == (
        "byol",
        "group",
        0.996,
        None,
    )
    encoder = tf.keras.models.load_model(byol_run.encoder_path)
    assert not [layer for layer in encoder.layers if hasattr(layer, "moving_mean")]
    rows = byol_run.metrics()
    assert [row["epoch"] for row in rows] == [0, 1, 2] and all(np.isfinite(row["loss"]) for row in rows[1:])
    assert rows[2]["verdict"] in ("healthy", "not optimising", "dimensional collapse", "complete collapse")
    judged = {"mean_pairwise_cosine", "std_to_mean", "rankme", "explained_variance_auc", "alignment", "uniformity"}
    assert {*judged, "projector_spread", "num_images"} <= rows[2].keys()


def test_tensorboard_has_what_the_readme_says(byol_run):
    board = byol_run.tensorboard_path
    tags = summary_tags(board / "pretrain")
    assert {"train/loss", "knn/balanced_accuracy", "collapse/verdict", "views/pairs"} <= tags
    assert any(tag.startswith("bn_log10_variance/") for tag in tags)
    assert {"training/loss", "training/knn_balanced_accuracy"} <= summary_tags(board / "hparams")
    assert list(board.glob("pretrain/plugins/profile/*/*.xplane.pb"))
    lines = (board / "pretrain" / "projector_config.pbtxt").read_text()
    assert "sprite" in lines and "metadata_path" in lines


def test_a_collapse_may_end_the_run_and_the_bad_epoch_is_on_record(phantoms, tmp_path, capsys, monkeypatch):
    run = RunFolder(tmp_path / "run")
    found = Verdict(COMPLETE_COLLAPSE, "all is one", "do otherwise")
    monkeypatch.setattr(sentinel, "verdict", lambda rows, **_: found)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["pretrain", *pretrain_flags(phantoms, run.path, "--epochs=4", "--on_collapse=stop")])
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 1 and "complete collapse" in line and "all is one" in line and "Do otherwise" in line
    rows = [json.loads(line) for line in run.metrics_path.read_text().splitlines()]
    assert rows[-1]["verdict"] == COMPLETE_COLLAPSE and not run.is_finished


def test_a_collapse_may_be_taken_back(phantoms, tmp_path, capsys, monkeypatch):
    """The second and third epoch are called a collapse: the fourth starts from the weights of the first."""
    run = RunFolder(tmp_path / "run")

    def judged(rows, **_):
        return Verdict(*((COMPLETE_COLLAPSE, "one", "else") if rows[-1]["epoch"] in (2, 3) else (HEALTHY, "all", "")))

    monkeypatch.setattr(sentinel, "verdict", judged)
    monkeypatch.setattr(checkpoint.RunCheckpoint, "_prune", lambda self: None)
    cli.run("pretrain", pretrain_flags(phantoms, run.path, "--epochs=4", "--on_collapse=rollback"))
    assert "epoch 3: complete collapse: one; back to the weights of epoch 1" in capsys.readouterr().out
    rows = run.metrics()
    assert [row.get("rollbacks") for row in rows] == [None, 0, 0, 0, 1]
    # 0.03 for 256 images; half a cosine over 16 steps, of which each epoch's last is on record.
    rates = [0.001875 * (1 + math.cos(math.pi * step / 16)) / 2 for step in (3, 7, 11, 15)]
    assert [row["lr"] for row in rows[1:]] == pytest.approx([*rates[:3], rates[3] / 10], rel=1e-4)
    taken_back, first = (tf.train.load_checkpoint(str(run.checkpoints_path / f"ckpt-{step}")) for step in (12, 4))
    names = [name for name in first.get_variable_to_shape_map() if "kernel" in name or "moving_" in name]
    assert len(names) > 20
    for name in names:
        np.testing.assert_array_equal(taken_back.get_tensor(name), first.get_tensor(name))


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--profile_steps=9", "--profile_steps=9 is not two whole numbers"),
        ("--strategy=mirrored", "at least two GPUs"),
        ("--base_tau=2", "base_tau"),
        ("--ema=0.99", "--ema keeps a moving average of the encoder, and --method=byol has one"),
        ("--ema=1", "--ema=1 must be the share"),
    ],
)
def test_flags_that_cannot_be_are_told_before_anything_is_written(flag, told, phantoms, tmp_path, capsys):
    more = [flag, "--method=byol"] if "byol" in told or "tau" in flag else [flag]
    with pytest.raises(SystemExit) as stopped:
        cli.main(["pretrain", *pretrain_flags(phantoms, tmp_path / "run", *more)])
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 1 and told in line
    assert not (tmp_path / "run").exists()
