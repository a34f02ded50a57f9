import json

import pytest

from bitkeras.errors import UserError
from bitkeras.runs import RunFolder

CONFIG = {"epochs": 3, "backbone": "R14x0.25", "base_lr": 0.03}


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.start(CONFIG)
    return folder


def test_the_same_arguments_go_on(run):
    before = run.config_path.stat().st_mtime_ns
    RunFolder(run.path).start(dict(reversed(CONFIG.items())))
    assert run.config_path.stat().st_mtime_ns == before
    assert run.config() == CONFIG


def test_every_other_argument_is_named_and_none_that_agrees(run):
    with pytest.raises(UserError) as error:
        run.start({"epochs": 4, "backbone": "R14x0.25", "norm": "group"})
    assert "--epochs=4 (recorded: 3)" in str(error.value)
    assert "--norm=group (recorded: None)" in str(error.value)
    assert "--base_lr=None (recorded: 0.03)" in str(error.value)
    assert "--backbone" not in str(error.value)
    assert run.config() == CONFIG


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match=f"{tmp_path}.*no run folder"):
        RunFolder(tmp_path).start(CONFIG)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_empty_folder_is_taken(tmp_path):
    RunFolder(tmp_path).start(CONFIG)
    assert RunFolder(tmp_path).config() == CONFIG


def test_check_writes_nothing(tmp_path):
    RunFolder(tmp_path / "run").check(CONFIG)
    assert not (tmp_path / "run").exists()


def test_what_is_no_run_folder_says_so(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist.*bitkeras pretrain"):
        RunFolder(tmp_path / "nowhere").config()


def test_an_encoder_makes_a_run_finished(run):
    assert not run.is_finished
    run.encoder_path.write_bytes(b"")
    assert run.is_finished


def test_rows_come_back_as_written(run):
    assert run.metrics() == []
    rows = [{"epoch": epoch, "loss": -0.1 * epoch} for epoch in range(3)]
    for row in rows:
        run.append_metrics(row)
    assert run.metrics() == rows
    assert [json.loads(line) for line in run.metrics_path.read_text().splitlines()] == rows


@pytest.mark.parametrize(("epoch", "kept"), [(2, [0, 1, 2]), (1, [0, 1]), (-1, [])])
def test_rows_after_an_epoch_are_dropped(run, epoch, kept):
    for row in range(3):
        run.append_metrics({"epoch": row})
    run.drop_metrics_after(epoch)
    assert [row["epoch"] for row in run.metrics()] == kept


@pytest.mark.parametrize("half", ['{"epoch": 2, "lo', '{"epoch": 2, "loss": 1.0}'])
def test_half_a_row_of_a_killed_run_is_no_row(run, half):
    for epoch in range(2):
        run.append_metrics({"epoch": epoch})
    with open(run.metrics_path, "a") as file:
        file.write(half)
    assert [row["epoch"] for row in run.metrics()] == [0, 1]
    run.drop_metrics_after(1)
    run.append_metrics({"epoch": 2})
    assert [row["epoch"] for row in run.metrics()] == [0, 1, 2]
