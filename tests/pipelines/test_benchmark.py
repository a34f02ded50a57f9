"""The benchmark measures, writes down what it measured, and refuses what it cannot measure."""

import json
import sys

import pytest
from PIL import Image

from bitkeras.data import read_source
from bitkeras.errors import UserError
from pipelines import cli, view_rates

TINY = ["--backbone=R14x0.25", "--image_size=16", "--batch_size=8", "--num_projections=8", "--num_predictor_hidden=4"]


@pytest.mark.slow
def test_training_is_measured_in_all_its_parts(phantoms, tmp_path, capsys):
    flags = ["--dataset=phantom", f"--data_dir={phantoms}", *TINY, "--steps=2", "--turns=1", "--precision=float32"]
    cli.run("benchmark", [*flags, f"--output={tmp_path / 'numbers.json'}"])
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    rates = {name: numbers[f"{name}_images_per_second"] for name in ("step", "memory", "real")}
    assert all(rate > 0 for rate in rates.values()) and numbers["views_per_second"] > 0
    assert numbers["loop_to_step"] == pytest.approx(rates["memory"] / rates["step"])
    assert numbers["real_to_memory"] == pytest.approx(rates["real"] / rates["memory"])
    assert 0 <= numbers["waiting_share"] <= 1 and numbers["peak_memory_gb"] > 0.1
    assert f"{numbers['views_per_second']:.1f} views/s" in capsys.readouterr().out


@pytest.mark.slow
def test_views_are_measured_beside_those_of_keras_cv(phantoms, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(view_rates, "CASES", ((40, 30, 16),))
    flags = ["--what=views", "--dataset=phantom", f"--data_dir={phantoms}", "--turns=1", "--steps=2"]
    cli.run("benchmark", [*flags, f"--output={tmp_path / 'views.json'}"])
    rows = json.loads((tmp_path / "views.json").read_text())["views"]
    assert [row["maker"] for row in rows] == ["bitkeras", "keras-cv"]
    ours, theirs = rows
    assert ours["to_keras_cv"] == pytest.approx(ours["views_per_second"] / theirs["views_per_second"])
    assert theirs["to_keras_cv"] == 1 and ours["to_torchvision"] is None and ours["kilobytes"] > 0.5
    told = capsys.readouterr().out
    assert "| 40x30, " in told and "pass --peer_python" in told


@pytest.mark.parametrize("python", ["no/such/python", sys.executable])
def test_a_peer_that_cannot_do_it_is_refused(python):
    """Here it is no program, or a Python without torch."""
    with pytest.raises(UserError, match=r"^--peer_python=.* pass the Python of an environment with torch"):
        view_rates._start(view_rates.TORCHVISION, [python, str(view_rates._PEER), "folder", "16", "8", "2"])


def test_files_are_of_the_size_and_number_that_is_told(phantoms, tmp_path):
    kilobytes = view_rates.write_files(read_source("phantom", phantoms), tmp_path, width=60, height=45, num_files=5)
    files = read_source("unlabelled_folder", tmp_path)
    assert len(files) == 5
    assert kilobytes == pytest.approx(sum(len(files.read(index)) for index in range(5)) / 5000)
    assert {Image.open(path).size for path in files.paths} == {(60, 45)}
