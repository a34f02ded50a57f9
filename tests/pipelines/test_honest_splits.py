"""Splits end to end: a table that one brings, folds, fewer labels, pairs of one lesion, and what the audit finds."""

import csv
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from small_road import fingerprint, pretrain_flags
from test_road import events

from bitkeras.data import read_source
from bitkeras.data.batches import view_batches
from bitkeras.data.source import ImageSource
from bitkeras.data.split_files import load_split
from bitkeras.data.splits import Split, lesion_split, with_fewer_to_train_on
from bitkeras.errors import UserError
from bitkeras.evaluation.duplicates import NEAR
from bitkeras.runs import RunFolder
from pipelines import cli, probe
from pipelines.leakage import audit_lines, audit_split

pytestmark = pytest.mark.slow

QUICK_PROBE = ["--epochs=5", "--trials=1", "--nobaselines", "--nofind_duplicates"]
SWAPPED = ("--weights=bit-m-mini", "--backbone=R26x0.25", "--swap=preserve")


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def record(path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def brought(phantoms, tmp_path_factory):
    """Phantoms as class folders, which know no lesions, and a table that names them: (images, table, its rows)."""
    folder = tmp_path_factory.mktemp("brought")
    source = read_source("ham10000", phantoms)
    parts = with_fewer_to_train_on(lesion_split(source, seed=4), 50, seed=0).parts
    rows = []
    for index, part in enumerate(parts):
        name = source.class_names[source.labels[index]]
        (folder / "images" / name).mkdir(parents=True, exist_ok=True)
        shutil.copy(source.paths[index], folder / "images" / name)
        image = f"{name}/{source.image_ids[index]}.jpg"
        rows.append({"image": image, "lesion": source.groups[index], "class": name, "part": part})
    rows = [rows[index] for index in np.random.default_rng(0).permutation(len(rows))]
    with open(folder / "mine.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "images", folder / "mine.csv", rows


@pytest.fixture(scope="module")
def of_table(brought, tmp_path_factory):
    """A run on that table, one epoch from swapped weights, and its probe."""
    images, table, _ = brought
    run = RunFolder(tmp_path_factory.mktemp("of_table") / "run")
    more = ("--dataset=image_folder", f"--split={table}", "--epochs=1", "--positives=lesion", *SWAPPED)
    cli.run("pretrain", pretrain_flags(images, run.path, *more))
    cli.run("probe", [f"--run_dir={run.path}", *QUICK_PROBE])
    return run


def test_every_step_takes_the_parts_of_the_table(brought, of_table, tmp_path):
    _, table, rows = brought
    wanted = {(row["image"], row["lesion"], row["class"], row["part"]) for row in rows}
    assert {tuple(row.values()) for row in rows_of(of_table.split_path)} == wanted
    images = {part: {row["image"] for row in rows if row["part"] == part} for part in {row["part"] for row in rows}}
    knn = record(of_table.path / "retention.json")["knn_balanced_accuracy"]
    assert (knn["num_bank"], knn["num_queries"]) == (len(images["probe_train"]), len(images["probe_val"]))
    assert {row["image_id"] for row in rows_of(of_table.path / "probe" / "predictions.csv")} == images["test"]
    report = (of_table.path / "probe" / "report.md").read_text()
    assert (
        f"{table} (pretrain 50, " in report
        and f"images of {len({r['lesion'] for r in rows if r['part'] == 'test'})} les" in report
    )
    cli.run("push", [f"--run_dir={of_table.path}", f"--push_dir={tmp_path / 'served'}"])
    assert (tmp_path / "served" / "1").is_dir()


def test_a_split_of_other_images_is_refused_by_every_step(brought, of_table, tmp_path):
    images, table, _ = brought
    shutil.copytree(images, tmp_path / "more")
    shutil.copy(next((images / "nv").iterdir()), tmp_path / "more" / "nv" / "one_more.jpg")
    run = RunFolder(tmp_path / "run")
    shutil.copytree(of_table.path, run.path)
    moved = f"--data_dir={tmp_path / 'more'}"
    flags = pretrain_flags(tmp_path / "more", run.path, "--dataset=image_folder", f"--split={table}", "--epochs=1")
    flags += ["--positives=lesion", *SWAPPED]
    for command, arguments in {
        "probe": [f"--run_dir={run.path}", "--name=other", moved, *QUICK_PROBE],
        "push": [f"--run_dir={run.path}", f"--push_dir={tmp_path / 'served'}", moved],
        "pretrain": flags,
    }.items():
        run.encoder_path.unlink() if command == "pretrain" else None
        with pytest.raises(UserError, match=r"1 are not in it .*nv/one_more.jpg is not in the split"):
            cli.run(command, arguments)
    fresh = [flag.replace(str(run.path), str(tmp_path / "fresh")) for flag in flags]
    with pytest.raises(UserError, match=r"mine.csv is of other images.*nv/one_more.jpg"):
        cli.run("pretrain", fresh)
    assert not (tmp_path / "fresh").exists() and not (run.path / "other").exists()


def test_a_run_goes_on_with_its_split_and_not_with_another(brought, of_table, tmp_path, capsys):
    images, table, rows = brought
    run = RunFolder(tmp_path / "run")
    shutil.copytree(of_table.path, run.path)
    run.encoder_path.unlink()
    more = ("--dataset=image_folder", "--epochs=1", "--positives=lesion", *SWAPPED)
    with pytest.raises(UserError, match="--split=lesion .recorded: .*mine.csv"):
        cli.run("pretrain", pretrain_flags(images, run.path, *more, "--split=lesion"))
    with pytest.raises(UserError, match="--positives=None .recorded: lesion"):
        cli.run("pretrain", pretrain_flags(images, run.path, *more, f"--split={table}", "--positives=image"))
    cli.run("pretrain", pretrain_flags(images, run.path, *more, f"--split={table}"))
    told = capsys.readouterr().out
    # The audit is told again, from its record.
    assert "leakage: none of" in told and run.is_finished


def test_pairs_of_one_lesion_are_what_the_network_is_given(brought, of_table, capsys):
    images, _, rows = brought
    source = read_source("image_folder", images)
    lesion = {row["image"]: row["lesion"] for row in rows}
    source = ImageSource(**{**vars(source), "groups": np.array([lesion[image] for image in source.image_ids.tolist()])})
    indices = load_split(of_table.split_path, source).indices("pretrain")
    _, _, encoded = events(of_table.path / "tensorboard" / "pretrain")["views/pairs", 0]
    grid = tf.io.decode_png(encoded).numpy().reshape(8, 32, 2, 32, 3) / 127.5 - 1
    settings = {"policy": "simsiam", "image_size": 32, "batch_size": 16, "seed": 0}
    batch = next(iter(view_batches(source, indices, positives="lesion", **settings)))
    np.testing.assert_allclose(grid[:, :, 1], batch["views_b"][:8], atol=1 / 127)
    assert of_table.config()["positives"] == "lesion"


def test_pairs_of_one_lesion_without_lesions_are_refused_and_the_folder_stays_free(brought, tmp_path):
    images, _, _ = brought
    with pytest.raises(UserError, match="image_folder names no lesions; pass --positives=image"):
        cli.run("pretrain", pretrain_flags(images, tmp_path / "run", "--dataset=image_folder", "--positives=lesion"))
    assert not (tmp_path / "run").exists()


def test_a_fold_is_trained_and_told(phantoms, tmp_path):
    run = RunFolder(tmp_path / "run")
    fold = ("--split=lesion", "--num_folds=3", "--fold=1", "--epochs=0")
    cli.run("pretrain", pretrain_flags(phantoms, run.path, *fold))
    cli.run("probe", [f"--run_dir={run.path}", *QUICK_PROBE])
    report = (run.path / "probe" / "report.md").read_text()
    assert "Split: lesion, fold 1 of 3 (" in report and "--num_folds=3" in report and "--fold=1" in report
    assert len(rows_of(run.path / "probe" / "predictions.csv")) == pytest.approx(40, abs=3)


def test_fewer_labels_are_recorded_and_kept_apart(road, tmp_path, capsys):
    run = RunFolder(tmp_path / "run")
    shutil.copytree(road.run_dir, run.path)
    common = [f"--run_dir={run.path}", *QUICK_PROBE]
    cli.run("probe", [*common, "--name=half", "--label_fraction=0.5"])
    whole, half = (rows_of(path) for path in (run.split_path, run.path / "half" / "labels.csv"))
    kept = {row["image_id"] for row in half if row["part"] == "probe_train"}
    before = {row["image_id"]: row["class"] for row in whole if row["part"] == "probe_train"}
    assert kept < before.keys() and {before[image] for image in kept} == set(before.values())
    assert [row["part"] for row in half if row["part"] == "unused"] == ["unused"] * (len(before) - len(kept))
    line = f"{len(kept)} of {len(before)} labels to train the probe ("
    assert (
        line in capsys.readouterr().out and f"--label_fraction=0.5: {line}" in (run.path / "half/report.md").read_text()
    )
    assert run.config() == RunFolder(road.run_dir).config()
    assert RunFolder(run.path / "half").config()["label_fraction"] == 0.5
    # Fewer labels, so fewer images that can leak; the test part is the same.
    told = [record(run.path / name / "leakage.json") for name in ("probe", "half")]
    assert told[0]["num_labelled"] == len(before) and told[1]["num_labelled"] == len(kept)
    assert told[0] == record(run.leakage_path)
    tests = [[row["image_id"] for row in rows_of(run.path / name / "predictions.csv")] for name in ("probe", "half")]
    assert tests[0] == tests[1]
    state = fingerprint(run.path)
    for other in ("--label_fraction=0.25", "--label_unit=lesion", "--label_fraction=1"):
        with pytest.raises(UserError, match="was started with other flags: --label_"):
            cli.run("probe", [*common, "--name=half", "--label_fraction=0.5", other])
    # All labels, said in so many words, are what the first probe had.
    cli.run("probe", [f"--run_dir={run.path}", "--epochs=20", "--label_fraction=1"])
    assert "already finished" in capsys.readouterr().out and fingerprint(run.path) == state


def test_a_runs_own_images_in_other_parts(road, tmp_path, capsys):
    """The run has the paper's split; in that of lesions it has seen some of the test part, and every file says so."""
    run = RunFolder(tmp_path / "run")
    shutil.copytree(road.run_dir, run.path)
    common = [f"--run_dir={run.path}", *QUICK_PROBE]
    cli.run("probe", [*common, "--name=lesion", "--split=lesion", "--seed=5"])
    source, own = (
        read_source("ham10000", road.data_dir),
        {row["image_id"]: row["part"] for row in rows_of(run.split_path)},
    )
    # By the seed of the run's split, and not by that of the classifiers.
    expected = lesion_split(source, seed=run.config()["seed"])
    table = rows_of(run.path / "lesion" / "split.csv")
    assert [row["part"] for row in table] == expected.parts.tolist() != list(own.values())
    test = source.image_ids[expected.indices("test")].tolist()
    assert [row["image_id"] for row in rows_of(run.path / "lesion" / "predictions.csv")] == test
    seen = [image for image in test if own[image] == "pretrain"]
    seen_lesions = {row["lesion_id"] for row in rows_of(run.split_path) if row["part"] == "pretrain"}
    sisters = [
        row["image_id"]
        for row in table
        if row["part"] == "test" and row["lesion_id"] in seen_lesions and own[row["image_id"]] != "pretrain"
    ]
    (row,) = record(run.path / "lesion" / "scores.json")
    assert (row["num_test_images"], row["num_seen_in_pretraining"]) == (len(test), len(seen)) and len(seen) > 3
    assert row["num_sisters_seen_in_pretraining"] == len(sisters) > 0
    audit = record(run.path / "lesion" / "leakage.json")
    assert audit["pretraining"]["num_seen"] == len(seen) and set(audit["sisters"]["by_part"]) == {
        "probe_train",
        "probe_val",
    }
    report, line = (run.path / "lesion" / "report.md").read_text(), f"has seen {len(seen)} of {len(test)} test images"
    assert line in report and line in capsys.readouterr().out and "lesion, where pre-training had paper" in report
    assert "--split=lesion" in report and "resplit=" not in report.partition("To reproduce")[2]
    with pytest.raises(UserError, match="was started with other flags: .*split"):
        cli.run("probe", [*common, "--name=lesion", "--seed=5"])
    # What is pushed is scored on the same images.
    results = RunFolder(run.path / "lesion")
    assert (probe.find_probed_split(run, results, source, results.config())[1].parts == expected.parts).all()


def test_the_runs_own_split_in_so_many_words_scores_the_same(road, tmp_path):
    run = RunFolder(tmp_path / "run")
    shutil.copytree(road.run_dir, run.path)
    for name, more in (("plain", []), ("said", ["--split=paper"])):
        cli.run("probe", [f"--run_dir={run.path}", *QUICK_PROBE, f"--name={name}", *more])
    (plain,), (said,) = (record(run.path / name / "scores.json") for name in ("plain", "said"))
    assert "num_seen_in_pretraining" not in plain and said.pop("num_seen_in_pretraining") == 0
    assert {name: said[name] for name in plain} == plain
    # As a probe of an earlier version recorded it, which had no other.
    config = RunFolder(run.path / "plain").config()
    assert config["split"] == "paper" and not config["resplit"]
    (run.path / "plain" / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "resplit"}))
    cli.run("probe", [f"--run_dir={run.path}", *QUICK_PROBE, "--name=plain"])


@pytest.fixture(scope="module")
def planted(phantoms):
    """Phantoms split by lesion, and copies of six test images, compressed hard, under other names in other parts."""
    source = read_source("ham10000", phantoms)
    split = lesion_split(source, seed=0)
    originals = split.indices("test")[[0, 3, 6, 9, 12, 15]]
    encoded = [source.read(index) for index in range(len(source))]
    for index in originals:
        image = tf.io.decode_jpeg(source.read(index))
        encoded.append(tf.io.encode_jpeg(image, quality=60).numpy())
    copies = [f"copy_{index}" for index in originals]
    made = ImageSource(
        name="planted",
        image_ids=np.concatenate([source.image_ids, copies]),
        encoded=np.array(encoded, object),
        labels=np.concatenate([source.labels, source.labels[originals]]),
        class_names=source.class_names,
        groups=np.concatenate([source.groups, copies]),
    )
    parts = [*split.parts, "pretrain", "pretrain", "probe_train", "probe_val", "unused", "test"]
    return made, Split(np.array(parts)), originals


def test_planted_copies_are_found_where_they_leak(planted):
    source, split, originals = planted
    near = audit_split(source, split, duplicates=True)["near_duplicates"]
    pairs = {(pair["test_image"], pair["other_image"]): pair for pair in near["pairs"]}
    expected = dict(zip(originals[:4], ("pretrain", "pretrain", "probe_train", "probe_val")))
    for index, part in expected.items():
        pair = pairs[source.image_ids[index], f"copy_{index}"]
        name = source.class_names[source.labels[index]]
        assert pair["part"] == part and pair["cosine"] >= NEAR and pair["classes"] == [name, name]
    # Neither an unused copy leaks nor one within the test part.
    assert not [pair for pair in pairs if pair[1] in {f"copy_{index}" for index in originals[4:]}]
    assert near["num_pairs"] == len(pairs) and near["num_test_images"] == len(split.indices("test"))
    found = {pair["test_image"] for pair in near["pairs"]}
    assert near["overall"] == pytest.approx(len(found) / near["num_test_images"])
    lines = audit_lines({"sisters": audit_split(source, split, duplicates=False)["sisters"], "near_duplicates": near})
    assert lines[0].startswith("leakage: none of ") and "leakage.json lists" in lines[1]


def test_copies_of_known_sisters_are_told_once(planted):
    """Under the table's own lesion ids the copies are sister photos, and so no news."""
    source, split, originals = planted
    groups = source.groups.copy()
    groups[-6:] = groups[originals]
    known = ImageSource(**{**vars(source), "groups": groups})
    audit = audit_split(known, split, duplicates=True)
    copies = {f"copy_{index}" for index in originals}
    assert not [pair for pair in audit["near_duplicates"]["pairs"] if pair["other_image"] in copies]
    assert audit["sisters"]["by_part"]["probe_val"] > 0


def test_only_what_a_model_is_made_of_is_looked_at(planted):
    source, split, _ = planted
    audit = audit_split(source, split, duplicates=True, parts=("probe_train", "probe_val"))
    assert set(audit["near_duplicates"]["by_part"]) == {"probe_train", "probe_val"}
    elsewhere = source.take(split.indices("test")), np.arange(10)
    audit = audit_split(source, split, duplicates=True, parts=("probe_train",), pretrained_on=elsewhere)
    assert audit["near_duplicates"]["by_part"]["pretrain"] == 10 / len(split.indices("test"))


@pytest.mark.real_data
def test_what_is_found_among_real_lesions(real_ham10000):
    """Half a percent at most look like a photo of another lesion; hard-compressed copies are nearly all found."""
    source = read_source("ham10000", real_ham10000)
    split = lesion_split(source, seed=0)
    near = audit_split(source, split, duplicates=True)["near_duplicates"]
    assert 0 < near["overall"] < 0.005
    originals = split.indices("test")[::10]
    encoded = [source.read(index) for index in range(len(source))]
    for copy, index in zip(split.indices("pretrain"), originals):
        encoded[copy] = tf.io.encode_jpeg(tf.io.decode_jpeg(source.read(index)), quality=40).numpy()
    copied = ImageSource(**{**vars(source), "paths": None, "encoded": np.array(encoded, object)})
    pairs = audit_split(copied, split, duplicates=True)["near_duplicates"]
    assert pairs["overall"] * len(split.indices("test")) >= 0.97 * len(originals)
