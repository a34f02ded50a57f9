import csv
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from small_road import WORDS, fingerprint

from bitkeras.callbacks import RunCheckpoint
from bitkeras.data import read_source
from bitkeras.data.batches import image_batches, view_batches
from bitkeras.data.split_files import load_split
from bitkeras.evaluation.answers import load_answers
from bitkeras.evaluation.features import encode
from bitkeras.evaluation.metrics import balanced_accuracy
from bitkeras.evaluation.verdict import VERDICTS
from bitkeras.runs import RunFolder
from export.predict import predict_files
from pipelines import cli, pretrain, trainers

pytestmark = pytest.mark.slow

FIGURES = ("scores", "training", "health", "map_sub_classes", "roc", "reliability", "confusion")
MEASURED = {"spread", "mean_pairwise_cosine", "std_to_mean", "rankme", "knn_balanced_accuracy", "knn_chance"}
MEASURED |= {"explained_variance_auc", "uniformity", "alignment", "projector_spread", "projector_rankme"}
TRAINED = {"loss", "lr", "images_per_second", *WORDS}


def events(folder):
    """(tag, step) -> array of every value in the event files of a folder."""
    return {
        (value.tag, event.step): tf.make_ndarray(value.tensor)
        for file in folder.glob("events*")
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }


@pytest.fixture(scope="module")
def source(road):
    return read_source("ham10000", road.data_dir)


@pytest.fixture(scope="module")
def split(road, source):
    return load_split(road.run_dir / "split.csv", source)


@pytest.fixture(scope="module")
def predictions(road):
    """Rows of predictions.csv of the probe of three trials."""
    return list(csv.DictReader(open(road.run_dir / "probe" / "predictions.csv")))


def probabilities_of(rows):
    names = [column for column in rows[0] if column.startswith("probability_")]
    return np.array([[float(row[name]) for name in names] for row in rows])


def test_the_run_folder_holds_what_is_promised_and_nothing_else(road):
    assert {path.name for path in road.run_dir.iterdir()} == {
        *("config.json", "split.csv", "leakage.json", "metrics.jsonl", "tensorboard", "checkpoints", "encoder.keras"),
        *("probe", "single", "features", "tfx"),
    }
    assert {path.relative_to(road.run_dir / "probe").as_posix() for path in (road.run_dir / "probe").rglob("*.*")} == {
        *(
            "config.json",
            "scores.json",
            "predictions.csv",
            "probe.npz",
            "report.html",
            "report.md",
            "report.json",
            "leakage.json",
        ),
        *("card.json", "predictions.npz"),
        *(f"figures/{name}.{kind}" for name in FIGURES for kind in ("svg", "png")),
    }


def test_the_flags_are_recorded(road):
    config = RunFolder(road.run_dir).config()
    given = {"backbone": "R14x0.25", "image_size": 32, "batch_size": 16, "epochs": 2, "precision": "float32"}
    defaults = {"dataset": "ham10000", "split": "paper", "norm": "batch", "weight_decay": 5e-4, "base_lr": 0.03}
    assert config.items() >= {**given, **defaults, "data_dir": str(road.data_dir), "weights": "none"}.items()
    assert {*config, *pretrain.ALL_CONDUCT, "run_dir", "flagfile"} == set(pretrain.FLAGS._values)


def test_the_split_is_the_papers(road, source, split):
    assert [len(split.indices(part)) for part in ("pretrain", "probe_train", "probe_val", "test")] == [72, 12, 12, 24]
    assert len((road.run_dir / "split.csv").read_text().splitlines()) == 1 + len(source)


def test_every_epoch_has_every_number(road):
    rows = RunFolder(road.run_dir).metrics()
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    for row in rows:
        assert set(row) == {"epoch", "num_images", *MEASURED, *(TRAINED if row["epoch"] else ())}
        assert all(np.isfinite(value) for name, value in row.items() if name not in WORDS)
        assert row.get("verdict", "healthy") in VERDICTS
        assert row["knn_chance"] == pytest.approx(1 / 7) and 0 <= row["knn_balanced_accuracy"] <= 1
        assert 1 <= row["rankme"] <= 12 and -1 <= row["mean_pairwise_cosine"] <= 1
    # 0.03 for 256 images, so 0.001875 for 16; the rate of steps 3 and 7 (from 0) of the 8 that half a cosine takes.
    assert [row["lr"] for row in rows[1:]] == pytest.approx([0.001875 * 0.691342, 0.001875 * 0.038060], rel=1e-4)
    assert all(row["images_per_second"] > 0 for row in rows[1:])


def test_tensorboard_holds_the_same_numbers(road):
    drawn = events(road.run_dir / "tensorboard" / "pretrain")
    tags = {"loss": "train/loss", "lr": "train/learning_rate", "images_per_second": "train/images_per_second"}
    tags["knn_balanced_accuracy"] = "knn/balanced_accuracy"
    rows = RunFolder(road.run_dir).metrics()
    expected = {
        (tags.get(name, f"features/{name}"), row["epoch"]): value
        for row in rows
        for name, value in row.items()
        if name not in ("epoch", "knn_chance", *WORDS)
    }
    expected |= {("collapse/verdict", row["epoch"]): VERDICTS.index(row["verdict"]) for row in rows if "verdict" in row}
    # The histograms of batch norm and the graph have tests of their own (test_board.py).
    scalars = {key for key in drawn if not key[0].startswith(("bn_", "R14x0.25"))}
    told = {("collapse/evidence", row["epoch"]): row for row in rows if "evidence" in row}
    assert scalars == {*expected, *told, ("views/pairs", 0)} and len(told) == 2
    for key, row in told.items():
        assert f"{row['verdict']}; {row['evidence']}" in drawn[key].item().decode()
    np.testing.assert_allclose([float(drawn[key]) for key in expected], list(expected.values()), rtol=1e-6)
    chance = events(road.run_dir / "tensorboard" / "chance")
    assert chance.keys() == {("knn/balanced_accuracy", epoch) for epoch in (0, 1, 2)}
    assert all(float(value) == pytest.approx(1 / 7) for value in chance.values())


def test_the_grid_shows_the_pairs_the_network_is_given(road, source, split):
    _, _, encoded = events(road.run_dir / "tensorboard" / "pretrain")["views/pairs", 0]
    grid = tf.io.decode_png(encoded).numpy().reshape(8, 32, 2, 32, 3) / 127.5 - 1
    settings = {"policy": "simsiam", "image_size": 32, "batch_size": 16, "seed": 0}
    batch = next(iter(view_batches(source, split.indices("pretrain"), **settings)))
    np.testing.assert_allclose(grid[:, :, 0], batch["views_a"][:8], atol=1 / 127)
    np.testing.assert_allclose(grid[:, :, 1], batch["views_b"][:8], atol=1 / 127)


def test_the_encoder_loads_in_plain_keras(road, source, split, tmp_path):
    images = np.concatenate(list(image_batches(source, split.indices("test"), image_size=32, batch_size=24)))
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys, numpy as np, tensorflow as tf\n"
        "encoder = tf.keras.models.load_model(sys.argv[1])\n"
        "np.save('features.npy', encoder(np.load('images.npy'), training=False))\n"
        "assert not {'bitkeras', 'pipelines', 'tensorflow_addons', 'keras_cv'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(road.run_dir / "encoder.keras")]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    features = np.load(tmp_path / "features.npy")
    # Against the last checkpoint, from which this file was not made.
    encoder = pretrain.build_encoder(RunFolder(road.run_dir).config())
    trainer = trainers.build_trainer(RunFolder(road.run_dir).config(), encoder, 4)
    assert RunCheckpoint(trainer, road.run_dir / "checkpoints", steps_per_epoch=4).restore() == 8
    assert features.shape == (24, 512) and features.std(axis=0).mean() > 0
    np.testing.assert_allclose(features, encoder(images, training=False), rtol=1e-4, atol=1e-5)


def test_scores_have_every_row_and_interval(road):
    rows = json.loads((road.run_dir / "probe" / "scores.json").read_text())
    names = [row["name"] for row in rows]
    cheap = ["raw pixels, logistic regression", "colour histograms, logistic regression", "majority class"]
    assert names[1:] == ["random encoder", *cheap]
    assert [row.get("baseline", False) for row in rows] == [False, True, True, True, True]
    for row in rows:
        low, high = row["interval"]
        assert 0 <= low <= row["balanced_accuracy"] <= high <= 1 and 0 <= row["macro_f1"] <= 1
    assert all("knn_balanced_accuracy" in row for row in rows[:2])
    assert rows[4]["balanced_accuracy"] == pytest.approx(1 / 7)


def test_predictions_are_of_the_test_part_and_sum_to_one(source, split, predictions):
    test = split.indices("test")
    assert [row["image_id"] for row in predictions] == source.image_ids[test].tolist()
    assert [row["class"] for row in predictions] == [source.class_names[label] for label in source.labels[test]]
    np.testing.assert_allclose(probabilities_of(predictions).sum(axis=1), 1, atol=1e-5)


def test_predictions_have_the_score_of_their_row(road, source):
    """With one trial the row is the classifier that the predictions are of."""
    folder = road.run_dir / "single"
    (row,) = json.loads((folder / "scores.json").read_text())
    predictions = list(csv.DictReader(open(folder / "predictions.csv")))
    labels = np.array([source.class_names.index(row["class"]) for row in predictions])
    score = balanced_accuracy(labels, probabilities_of(predictions).argmax(axis=1))
    assert score == pytest.approx(row["balanced_accuracy"]) and row["balanced_accuracy_std"] is None


def test_the_card_is_of_the_same_answers_as_table_and_saved_model(road, source, split, predictions):
    card = json.loads((road.run_dir / "probe" / "card.json").read_text())
    answers = load_answers(road.run_dir / "probe" / "predictions.npz")
    row = json.loads((road.run_dir / "probe" / "scores.json").read_text())[0]
    assert answers.image_ids.tolist() == source.image_ids[split.indices("test")].tolist()
    np.testing.assert_array_equal(answers.groups, source.groups[split.indices("test")])
    # What is served is the best trial, calibrated.
    served = answers.probabilities[answers.best_trial]
    np.testing.assert_allclose(served, probabilities_of(predictions), atol=1e-6)
    for metric in ("balanced_accuracy", "macro_f1"):
        assert card["overall"][metric]["value"] == pytest.approx(row[metric])
        assert card["overall"][metric]["std"] == pytest.approx(row[f"{metric}_std"])
    np.testing.assert_allclose(card["overall"]["balanced_accuracy"]["interval"], row["interval"])
    assert card["overall"]["roc_auc"]["value"] == row["roc_auc"] and card["overall"]["pr_auc"]["value"] == row["pr_auc"]
    assert {table["fact"] for table in card["subgroups"]} >= {"sex", "age band", "site"}
    assert card["focus"] == "mel" and card["num_groups"] == len(set(answers.groups))
    assert card["calibration"]["temperature"] != 1


def test_the_projector_shows_the_features_that_the_map_is_made_of(road, source, split):
    folder = road.run_dir / "tensorboard" / "hparams"
    assert "projector/features.tsv" in (folder / "projector_config.pbtxt").read_text()
    table = (folder / "projector" / "images.tsv").read_text().splitlines()[1:]
    assert [line.split("\t")[1] for line in table] == source.image_ids[split.indices("test")].tolist()
    points = np.loadtxt(folder / "projector" / "features.tsv")
    kept = encode(tf.keras.models.load_model(road.run_dir / "encoder.keras"), image_batches_of(source, split))
    # Fewer coordinates, the same lengths.
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), np.linalg.norm(kept, axis=1), rtol=1e-3)


def image_batches_of(source, split):
    return image_batches(source, split.indices("test"), image_size=32, batch_size=24)


def test_the_report_tells_scores_and_commands(road):
    report = (road.run_dir / "probe" / "report.md").read_text()
    for row in json.loads((road.run_dir / "probe" / "scores.json").read_text()):
        assert f"| {row['name']}" in report and f"{row['balanced_accuracy']:.3f}" in report
    for command in ("pretrain", "probe"):
        (line,) = [line for line in report.splitlines() if line.startswith(f"bitkeras {command} ")]
        assert f"--run_dir={road.run_dir}" in line
        # What stands there can be typed again.
        cli.run(command, line.split()[2:])


def test_the_saved_model_answers_what_the_probe_found(road, source, split, predictions):
    answers = predict_files(road.push_dir / "1", source.paths[split.indices("test")])
    served = np.array([list(answer["probabilities"].values()) for answer in answers])
    assert list(answers[0]["probabilities"]) == list(source.class_names)
    np.testing.assert_allclose(served, probabilities_of(predictions), atol=1e-5)


def test_predict_prints_the_likeliest_first(road, source, predictions, split, capsys):
    path = str(source.paths[split.indices("test")[0]])
    cli.run("predict", [f"--push_dir={road.push_dir}", path])
    wanted = max(
        (float(value), name[len("probability_") :]) for name, value in predictions[0].items() if "probability" in name
    )
    assert capsys.readouterr().out.startswith(f"{path}: {wanted[1]} {wanted[0]:.3f}, ")
    cli.run("predict", [f"--push_dir={road.push_dir}", "--json", path, path])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["prediction"] for line in lines] == [wanted[1]] * 2 and len(lines[0]["embedding"]) == 512


def test_a_finished_step_run_again_says_so_and_changes_nothing(road, capsys):
    before = fingerprint(road.run_dir.parent)
    for command, told in {"pretrain": "already finished", "probe": "already finished", "push": "already"}.items():
        cli.run(command, road.commands[command])
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 1 and told in lines[0]
    assert fingerprint(road.run_dir.parent) == before
    assert [path.name for path in road.push_dir.iterdir()] == ["1"]
