"""`bitkeras predict --input`: a pushed model over a folder, a table and records, and what a stop leaves behind."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small_road import ROOT

from bitkeras.data import read_source
from export.predict import predict_files
from pipelines import cli, predict_archive

pytest.importorskip("apache_beam", reason="the extra beam is not installed")
pytestmark = pytest.mark.slow


def flags(road, place, output, *more):
    return [
        *(f"--push_dir={road.push_dir}", f"--input={place}", f"--output_dir={output}", "--images_per_shard=50"),
        *map(str, more),
    ]


def fail(capfd, *arguments) -> str:
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["predict", *arguments])
    (line,) = capfd.readouterr().err.splitlines()
    assert stopped.value.code in (1, 2)
    return line


def read(folder: Path) -> list[dict[str, str]]:
    return [row for path in sorted(folder.glob("predictions-*.csv")) for row in csv.DictReader(open(path))]


def probabilities(rows, names):
    return np.array([[float(row[f"probability_{name}"]) for name in names] for row in rows])


@pytest.fixture(scope="module")
def predicted(road, tmp_path_factory):
    """The phantoms as a folder of images; to be read and not changed."""
    output = tmp_path_factory.mktemp("predicted") / "folder"
    cli.run("predict", flags(road, road.data_dir, output))
    return output


def test_rows_are_the_answers_that_files_get(road, predicted):
    rows = read(predicted)
    source = read_source("unlabelled_folder", road.data_dir)
    assert [row["image_id"] for row in rows] == source.image_ids.tolist() and len(rows) == 120
    answers = predict_files(road.push_dir / "1", source.paths)
    names = list(answers[0]["probabilities"])
    wanted = np.array([list(answer["probabilities"].values()) for answer in answers])
    np.testing.assert_allclose(probabilities(rows, names), wanted, atol=1e-5)
    assert [row["prediction"] for row in rows] == [answer["prediction"] for answer in answers]
    np.testing.assert_allclose([float(row["ood_score"]) for row in rows], [a["ood_score"] for a in answers], atol=0.02)
    assert {row["status"] for row in rows} == {"ok"} and wanted.std(axis=0).max() > 1e-4
    told = json.loads((predicted / "predict.json").read_text())
    assert (told["num_images"], told["num_bad_images"]) == (120, 0) and sum(told["predictions"].values()) == 120
    assert {path.name for path in predicted.iterdir()} == {
        *(f"predictions-{n:05d}-of-00003.csv" for n in range(3)),
        "predict.json",
    }


def test_a_table_and_records_give_the_same_answers(road, predicted, tmp_path):
    by_id = {Path(row["image_id"]).stem: row for row in read(predicted)}
    table = tmp_path / "clinic.csv"
    source = read_source("ham10000", road.data_dir)
    with open(table, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "file", "diagnosis"])
        for path, label in zip(source.paths, source.labels):
            writer.writerow([Path(path).stem, path, source.class_names[label]])
    more = ["--image_column=file", "--id_column=name", "--label_column=diagnosis"]
    cli.run("predict", flags(road, table, tmp_path / "of_table", *more))
    cli.run("ingest", [f"--data_dir={road.data_dir}", f"--output_dir={tmp_path / 'records'}"])
    cli.run("predict", flags(road, tmp_path / "records", tmp_path / "of_records", "--num_workers=2"))
    classes = dict(zip(source.image_ids, np.array(source.class_names)[source.labels]))
    for folder in ("of_table", "of_records"):
        rows = read(tmp_path / folder)
        assert {row["image_id"]: row["class"] for row in rows} == classes
        wanted = [by_id[row["image_id"]] for row in rows]
        names = [name.removeprefix("probability_") for name in rows[0] if name.startswith("probability_")]
        np.testing.assert_allclose(probabilities(rows, names), probabilities(wanted, names), atol=1e-5)


def test_bad_images_have_a_status_and_are_listed(road, predicted, tmp_path, capfd):
    shutil.copytree(road.data_dir, tmp_path / "data")
    cut, no_image, *others = sorted((tmp_path / "data").rglob("*.jpg"))
    cut.write_bytes(cut.read_bytes()[:400])
    no_image.write_bytes(b"")
    cli.run("predict", flags(road, tmp_path / "data", tmp_path / "out"))
    rows, wanted = read(tmp_path / "out"), read(predicted)
    assert [row["image_id"] for row in rows] == [row["image_id"] for row in wanted]
    bad = [row for row in rows if row["status"] != "ok"]
    assert [Path(row["image_id"]).name for row in bad] == [cut.name, no_image.name]
    assert all(value == "" for row in bad for name, value in row.items() if name not in ("image_id", "status"))
    # More than the 1 % that other commands stop at.
    listed = (tmp_path / "out" / "bad_images.csv").read_text()
    assert str(cut) in listed and str(no_image) in listed and "2 images cannot be used" in capfd.readouterr().out
    told = json.loads((tmp_path / "out" / "predict.json").read_text())
    assert (told["num_images"], told["num_bad_images"]) == (118, 2)


def test_a_killed_run_goes_on_and_ends_with_the_same_rows(road, predicted, tmp_path, capfd):
    output, process = tmp_path / "out", None
    command = [sys.executable, "-m", "pipelines.cli", "predict", *flags(road, road.data_dir, output)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    reports = tmp_path / ".out.work" / "reports"
    deadline = time.monotonic() + 240
    while not (reports.is_dir() and os.listdir(reports)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not output.exists() and os.listdir(reports)
    capfd.readouterr()
    done = [path.stem for path in reports.iterdir()]
    kept = {name: (tmp_path / ".out.partial" / name).stat().st_mtime_ns for name in done}
    cli.run("predict", flags(road, road.data_dir, output))
    assert "3 shards, going on after " in capfd.readouterr().out
    assert all((output / name).stat().st_mtime_ns == changed for name, changed in kept.items()) and kept
    rows, wanted = read(output), read(predicted)
    names = [name.removeprefix("probability_") for name in rows[0] if name.startswith("probability_")]
    assert [(row["image_id"], row["prediction"]) for row in rows] == [
        (row["image_id"], row["prediction"]) for row in wanted
    ]
    np.testing.assert_allclose(probabilities(rows, names), probabilities(wanted, names), atol=1e-5)
    cli.run("predict", flags(road, road.data_dir, output))
    assert "already finished (120 images)" in capfd.readouterr().out


def test_another_version_is_not_gone_on_with(road, predicted, tmp_path, capfd):
    shutil.copytree(road.push_dir, tmp_path / "served")
    shutil.copytree(tmp_path / "served" / "1", tmp_path / "served" / "2")
    given = [f"--push_dir={tmp_path / 'served'}", f"--input={road.data_dir}", "--images_per_shard=50"]
    line = fail(capfd, *given, f"--output_dir={predicted}")
    assert "--version=2, sha256" in line and "recorded: 1, sha256" in line


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--input=none", "--output_dir=out"], "--input=none does not exist"),
        (["--input={readme}", "--output_dir=out"], "neither a .csv table nor TFRecords"),
        (["--input={data}"], "--output_dir must be given with --input"),
        (["--output_dir=out", "x.jpg"], "--output_dir is for --input"),
        (["--input={data}", "--output_dir=out", "--json"], "leave --server and --json out"),
        (["--input={data}", "--output_dir=out", "x.jpg"], "x.jpg stands without a flag"),
        (["--input={data}", "--output_dir=out", "--version=9"], "holds no version 9"),
        (["--input={empty}", "--output_dir=out"], "There is no image below"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(road, tmp_path, capfd, monkeypatch, more, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    places = {"readme": ROOT / "README.md", "data": road.data_dir, "empty": tmp_path / "empty"}
    line = fail(capfd, f"--push_dir={road.push_dir}", *(flag.format(**places) for flag in more))
    assert told in line and not (tmp_path / "out").exists()


def test_the_kind_of_input_is_seen(tmp_path):
    (tmp_path / "records" / "Split-eval").mkdir(parents=True)
    (tmp_path / "records" / "Split-eval" / "data_tfrecord-00000-of-00001.gz").touch()
    (tmp_path / "table.CSV").touch()
    assert predict_archive.kind_of(tmp_path / "records") == "tfrecord"
    assert (
        predict_archive.kind_of(tmp_path / "records" / "Split-eval" / "data_tfrecord-00000-of-00001.gz") == "tfrecord"
    )
    assert predict_archive.kind_of(tmp_path / "table.CSV") == "csv"
    assert predict_archive.kind_of(tmp_path) == "tfrecord"
    (tmp_path / "images").mkdir()
    assert predict_archive.kind_of(tmp_path / "images") == "unlabelled_folder"
