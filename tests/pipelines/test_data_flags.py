"""The flags that say where images are and how they are read."""

import csv

import pytest
from small_road import pretrain_flags

from bitkeras.data import OPTIONS
from bitkeras.errors import UserError
from bitkeras.runs import RunFolder
from pipelines import benchmark, cli, pretrain, probe, runtime, upstream


@pytest.mark.parametrize("command", [pretrain, upstream, benchmark, probe])
def test_every_command_that_reads_images_takes_every_option(command):
    assert runtime.READER_OPTIONS == tuple(dict.fromkeys(name for names in OPTIONS.values() for name in names))
    assert set(runtime.READER_OPTIONS) <= set(command.FLAGS.values())


def test_an_option_of_another_data_set_is_refused_before_anything_is_written(phantoms, tmp_path):
    flags = pretrain_flags(phantoms, tmp_path / "run", "--group_column=patient")
    with pytest.raises(UserError, match="--group_column=patient is for --dataset=csv, .* this is --dataset=phantom"):
        cli.run("pretrain", [*flags, "--dataset=phantom"])
    assert not (tmp_path / "run").exists()


def test_the_recorded_options_read_the_images_again(phantoms):
    table = str(next(phantoms.rglob("*.csv")))
    config = {"dataset": "csv", "data_dir": table, "image_column": "image_id", "label_column": "dx", "id_column": None}
    by_class = runtime.read_existing(config)
    assert by_class.labels is not None and len(by_class) == 120
    by_sex = runtime.read_existing({**config, "data_dir": "gone", "label_column": "sex"}, table)
    assert by_sex.class_names != by_class.class_names
    # Recorded by a version that knew no options.
    assert len(runtime.read_existing({"dataset": "ham10000", "data_dir": str(phantoms)})) == 120


def test_a_probe_of_the_runs_own_images_takes_no_options():
    runtime.refuse_reader_options({"dataset": probe.AS_PRETRAINED, "label_column": None})
    with pytest.raises(UserError, match="--label_column=sex is for another --dataset, .* or pass --dataset too"):
        runtime.refuse_reader_options({"dataset": probe.AS_PRETRAINED, "label_column": "sex"})


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="images.csv does not exist"):
        runtime.read_existing({"dataset": "csv", "data_dir": str(tmp_path / "images.csv")})


@pytest.mark.slow
def test_a_table_is_pretrained_on_and_probed_as_the_release_it_describes(phantoms, tmp_path):
    (table,) = phantoms.rglob("*.csv")
    columns = ["--image_column=image_id", "--label_column=dx", "--group_column=lesion_id", "--fact_columns=age,sex"]
    flags = ["--dataset=csv", *columns, "--split=lesion", "--epochs=1"]
    cli.run("pretrain", pretrain_flags(table, tmp_path / "run", *flags))
    cli.run(
        "probe", [f"--run_dir={tmp_path / 'run'}", "--epochs=5", "--trials=1", "--nobaselines", "--nofind_duplicates"]
    )
    run = RunFolder(tmp_path / "run")
    assert run.config()["group_column"] == "lesion_id" and run.config()["id_column"] is None
    with open(table, newline="") as described, open(run.split_path, newline="") as split:
        known = {row["image_id"]: (row["lesion_id"], row["dx"]) for row in csv.DictReader(described)}
        assert {row["image_id"]: (row["lesion_id"], row["class"]) for row in csv.DictReader(split)} == known
    report = (run.path / "probe" / "report.md").read_text()
    assert "--group_column=lesion_id" in report and "--id_column" not in report
