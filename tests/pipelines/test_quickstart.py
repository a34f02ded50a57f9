import pytest
from small_road import ROOT, fingerprint

from pipelines import cli

pytestmark = pytest.mark.slow


def test_quickstart_goes_the_whole_road_and_a_second_time_finds_it_gone(tmp_path, capsys):
    smoke = (ROOT / "pipelines" / "presets" / "smoke.flags").read_text()
    preset = tmp_path / "small.flags"
    preset.write_text(smoke.replace("R14x0.25", "R26x0.25"))
    command = [f"--preset={preset}", "--num_images=120", f"--output_dir={tmp_path / 'road'}"]
    cli.run("quickstart", command)
    printed = capsys.readouterr().out
    shown = [line.split()[2] for line in printed.splitlines() if line.startswith("$ bitkeras")]
    assert shown == ["pretrain", "pretrain", "pretrain", "probe", "push", "predict"]
    answer = next(line for line in printed.splitlines() if ".jpg: " in line)
    assert len(answer.split(": ")[1].split(", ")) == 7 and "Done in" in printed
    promised = ["phantoms/HAM10000_metadata.csv", "run/encoder.keras", "run/tensorboard", "run/probe/report.md"]
    assert all((tmp_path / "road" / name).exists() for name in [*promised, "served/1/saved_model.pb"])
    report = (tmp_path / "road" / "run" / "probe" / "report.md").read_text()
    for encoder in ("bit-m-mini, frozen", "simsiam from random weights", "simsiam from bit-m-mini"):
        assert f"| {encoder}" in report
    before = fingerprint(tmp_path)
    cli.run("quickstart", command)
    again = capsys.readouterr().out
    assert again.count("already finished") == 4 and "already holds" in again and answer in again
    assert fingerprint(tmp_path) == before
