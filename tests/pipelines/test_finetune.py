"""`bitkeras finetune`: from a run to a report, a comparison and a version that serves."""

import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf
from small_road import pretrain_flags

from bitkeras.data import read_source
from bitkeras.data.batches import image_batches
from bitkeras.data.split_files import load_split
from bitkeras.evaluation.answers import load_answers
from bitkeras.evaluation.features import encode
from bitkeras.methods.finetuning import load_best
from export.predict import predict_files
from pipelines import cli
from pipelines import finetune as command

pytestmark = pytest.mark.slow
SHORT = ("--epochs=12", "--batch_size=4", "--lr_grid=0.01,0.1", "--precision=float32")


@pytest.fixture(scope="module")
def tuned(phantoms, tmp_path_factory):
    """A BiT network as it is, with GN, fine-tuned; to be read and not changed."""
    run_dir = tmp_path_factory.mktemp("tuned") / "run"
    cli.run("pretrain", pretrain_flags(phantoms, run_dir, "--norm=group", "--epochs=0"))
    cli.run("finetune", [f"--run_dir={run_dir}", *SHORT, "--balanced"])
    return run_dir


def test_the_head_answers_on_the_features_of_the_new_encoder(tuned, phantoms):
    folder = tuned / "finetune"
    source = read_source("ham10000", phantoms)
    split = load_split(tuned / "split.csv", source)
    batches = image_batches(source, split.indices("test"), image_size=32, batch_size=24)
    new, old = (encode(tf.keras.models.load_model(path / "encoder.keras"), batches) for path in (folder, tuned))
    assert np.abs(new - old).max() > 1e-3 * np.abs(old).max()
    with np.load(folder / "probe.npz") as probe:
        logits = new @ probe["kernel"] + probe["bias"]
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    answers = load_answers(folder / "predictions.npz")
    np.testing.assert_allclose(answers.probabilities[0], wanted, atol=1e-4)
    (row,) = json.loads((folder / "scores.json").read_text())
    assert row["name"] == "random weights, fine-tuned" and 0 <= row["val_balanced_accuracy"] <= 1
    report = (folder / "report.md").read_text()
    assert f"bitkeras finetune --run_dir={tuned}" in report and "Best rate" in report
    (line,) = [line for line in report.splitlines() if line.startswith("bitkeras finetune ")]
    # What stands there can be typed again.
    cli.run("finetune", line.split()[2:])


def test_it_is_compared_and_pushed_as_a_probe_is(tuned, phantoms, tmp_path, capsys):
    cli.run("probe", [f"--run_dir={tuned}", "--epochs=5", "--nobaselines"])
    cli.run("compare", [f"--output_dir={tmp_path / 'compared'}", f"{tuned}:finetune", str(tuned)])
    told = json.loads((tmp_path / "compared" / "report.json").read_text())["arms"][:2]
    assert [arm["name"] for arm in told] == ["random weights, fine-tuned", "random weights, frozen"]
    cli.run(
        "push", [f"--run_dir={tuned}", "--name=finetune", f"--push_dir={tmp_path / 'served'}", "--noinfra_validate"]
    )
    source = read_source("ham10000", phantoms)
    test = load_split(tuned / "split.csv", source).indices("test")
    answers = predict_files(tmp_path / "served" / "1", source.paths[test])
    served = np.array([list(answer["probabilities"].values()) for answer in answers])
    np.testing.assert_allclose(served, load_answers(tuned / "finetune" / "predictions.npz").probabilities[0], atol=1e-4)


def test_a_share_of_the_labels_and_a_network_with_batch_norm(road, tmp_path, capsys):
    flags = [f"--run_dir={road.run_dir}", "--name=tuned", *SHORT, "--label_fraction=0.5"]
    cli.run("finetune", flags)
    told = capsys.readouterr().out
    seen = re.findall(r"rate ([\d.]+), epoch .* validation ([\d.]+), the best", told)
    low, high = (max(float(score) for tried, score in seen if tried == rate) for rate in ("0.01", "0.1"))
    edge = f"the best rate, {'0.1, is the largest' if high > low else '0.01, is the smallest'} of the grid"
    # Of two rates the better is at an end; where both do as well, nothing points beyond.
    for text in (told, (road.run_dir / "tuned" / "report.md").read_text()):
        assert (edge in text) == (low != high) and ("of the grid" in text) == (low != high)
    assert "rate 0.1, epoch 12/12  loss " in told and (road.run_dir / "tuned" / "labels.csv").exists()
    encoder = tf.keras.models.load_model(road.run_dir / "tuned" / "encoder.keras")
    assert any(isinstance(layer, tf.keras.layers.BatchNormalization) for layer in encoder.layers)
    cli.run("finetune", flags)
    assert "already finished" in capsys.readouterr().out


def test_stopped_it_goes_on_with_the_next_rate(tuned, tmp_path, capsys, monkeypatch):
    run_dir, train, trained = tmp_path / "run", command.train, []
    shutil.copytree(tuned, run_dir, ignore=shutil.ignore_patterns("finetune", "probe"))
    flags = [f"--run_dir={run_dir}", *SHORT]

    def train_or_stop(run, scores, options, rate):
        trained.append(rate)
        if trained == [0.01, 0.1]:
            raise KeyboardInterrupt
        return train(run, scores, options, rate)

    monkeypatch.setattr(command, "train", train_or_stop)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["finetune", *flags])
    assert stopped.value.code == 130 and not (run_dir / "finetune" / "report.md").exists()
    kept = load_best(run_dir / "finetune" / "tried_rates" / "rate_0.01.npz")
    capsys.readouterr()
    cli.run("finetune", flags)
    told = f"rate 0.01 was tried before: validation {kept.score:.3f} in epoch {kept.epoch}"
    assert trained == [0.01, 0.1, 0.1] and told in capsys.readouterr().out and len(kept.history) == 12
    assert (run_dir / "finetune" / "report.md").exists() and not (run_dir / "finetune" / "tried_rates").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--lr_grid=0.1,x"], "--lr_grid=0.1,x is no list of different numbers above 0"),
        (["--seed=5"], "--seed"),
        (["--run_dir=none"], "none"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(tuned, capfd, more, told):
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["finetune", f"--run_dir={tuned}", *SHORT, "--balanced", *more])
    (line,) = capfd.readouterr().err.splitlines()
    assert told in line and stopped.value.code == 1
