import pytest
from small_road import fingerprint

from pipelines import cli

pytestmark = pytest.mark.slow


def test_quickstart_goes_the_whole_road_and_a_second_time_finds_it_gone(tmp_path, capsys):
    command = ["--preset=smoke", "--num_images=120", f"--output_dir={tmp_path}"]
    cli.run("quickstart", command)
    printed = capsys.readouterr().out
    shown = [line.split()[2] for line in printed.splitlines() if line.startswith("$ bitkeras")]
    assert shown == ["pretrain", "probe", "push", "predict"]
    answer = next(line for line in printed.splitlines() if ".jpg: " in line)
    assert len(answer.split(": ")[1].split(", ")) == 7 and "Done in" in printed
    promised = ["phantoms/HAM10000_metadata.csv", "run/encoder.keras", "run/tensorboard", "run/probe/report.md"]
    assert all((tmp_path / name).exists() for name in [*promised, "served/1/saved_model.pb"])
    before = fingerprint(tmp_path)
    cli.run("quickstart", command)
    again = capsys.readouterr().out
    assert again.count("already finished") == 2 and "already holds" in again and answer in again
    assert fingerprint(tmp_path) == before
