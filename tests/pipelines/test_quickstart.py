import pytest
from small_road import ROOT, fingerprint

from pipelines import cli

pytestmark = pytest.mark.slow


def test_quickstart_goes_the_whole_road_and_a_second_time_finds_it_gone(tmp_path, capsys, study_contents):
    smoke = (ROOT / "pipelines" / "presets" / "smoke.flags").read_text()
    preset = tmp_path / "small.flags"
    preset.write_text(smoke.replace("R14x0.25", "R26x0.25"))
    command = [f"--preset={preset}", "--num_images=120", f"--output_dir={tmp_path / 'road'}"]
    cli.run("quickstart", command)
    printed = capsys.readouterr().out
    shown = [line.split()[2] for line in printed.splitlines() if line.startswith("$ bitkeras")]
    assert shown == ["study", *["pretrain", "probe"] * 3, "push", "predict"]
    answer = next(line for line in printed.splitlines() if ".jpg: " in line)
    assert len(answer.split(": ")[1].split(", ")) == 7 and "Done in" in printed
    promised = ["phantoms/HAM10000_metadata.csv", "study/plan.json", "study/report.html", "served/1/saved_model.pb"]
    assert all((tmp_path / "road" / name).exists() for name in promised)
    (content,) = study_contents
    arms = {arm["id"]: arm for arm in content["arms"] if not arm["baseline"]}
    assert list(arms) == ["bit_m", "simsiam", "bit_m_simsiam"]
    assert "retention" in arms["bit_m_simsiam"] and len(content["maps"]) == 2
    before = fingerprint(tmp_path)
    cli.run("quickstart", command)
    again = capsys.readouterr().out
    assert "0 of 7 steps are to be done" in again and "already holds" in again and answer in again
    # The plan is written again, and says the same.
    after = fingerprint(tmp_path)
    assert {name: sha for name, (_, sha) in after.items()} == {name: sha for name, (_, sha) in before.items()}
    assert {name for name in after if after[name] != before[name]} == {"road/study/plan.json"}
