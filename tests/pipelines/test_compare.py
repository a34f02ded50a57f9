"""Probes that are there already, side by side."""

import json
import shutil

import numpy as np
import pytest

from bitkeras.errors import UserError
from bitkeras.evaluation.answers import load_answers
from bitkeras.evaluation.comparison import paired_differences
from bitkeras.evaluation.metrics import balanced_accuracy
from bitkeras.runs import RunFolder
from pipelines import cli
from pipelines.compare import baselines, compared_pairs, distinct_names, leakage_lines


def compare(output_dir, *runs):
    cli.run("compare", [f"--output_dir={output_dir}", *map(str, runs)])
    return json.loads((output_dir / "report.json").read_text())


@pytest.fixture(scope="module")
def compared(road, tmp_path_factory):
    """Folder and content of the report on two probes of one run."""
    folder = tmp_path_factory.mktemp("compared") / "new"
    return folder, compare(folder, road.run_dir, f"{road.run_dir}:single")


def test_scores_are_those_of_the_probes(road, compared):
    for arm, name in zip(compared[1]["arms"], ("probe", "single")):
        folder = road.run_dir / name
        answers = load_answers(folder / "predictions.npz")
        trials = [balanced_accuracy(answers.labels, trial.argmax(axis=1)) for trial in answers.probabilities]
        assert arm["scores"]["balanced_accuracy"]["value"] == pytest.approx(np.mean(trials), abs=1e-12)
        (row, *_) = json.loads((folder / "scores.json").read_text())
        assert arm["scores"]["knn_balanced_accuracy"]["value"] == row["knn_balanced_accuracy"]
        assert arm["card"] == json.loads((folder / "card.json").read_text()) and arm["name"].endswith(f":{name})")
        assert arm["curves"] == [RunFolder(road.run_dir).metrics()]
        assert arm["flags"]["probe --trials"] == RunFolder(folder).config()["trials"]


def test_differences_are_paired(road, compared):
    names = [arm["name"] for arm in compared[1]["arms"][:2]]
    answers = {
        name: load_answers(road.run_dir / probe / "predictions.npz") for name, probe in zip(names, ("probe", "single"))
    }
    for row in compared[1]["differences"]:
        (expected,) = paired_differences(answers, [(row["a"], row["b"])], metrics=[row["metric"]])
        assert row == expected
    assert {row["metric"] for row in compared[1]["differences"]} == {"balanced_accuracy", "macro_f1", "roc_auc"}


def test_the_page_tells_what_the_probes_told(road, compared):
    folder, content = compared
    probe = json.loads((road.run_dir / "probe" / "report.json").read_text())
    for key in ("data", "split", "leakage_share", "leakage", "num_test_images", "num_test_lesions", "chance_level"):
        assert content[key] == probe[key]
    # Of the first probe: the other was made without.
    told = [arm["name"] for arm in content["arms"] if arm.get("baseline")]
    assert told == [row["name"] for row in json.loads((road.run_dir / "probe/scores.json").read_text())[1:]]
    assert {"scores", "training", "roc", "confusion"} <= {figure["name"] for figure in content["figures"]}
    assert "2 encoders compared" in (folder / "report.html").read_text()


def test_its_commands_make_it_again(road, compared, tmp_path):
    commands = [line.split() for line in compared[1]["commands"]]
    # The run was trained once and probed twice.
    assert [command[1] for command in commands] == ["pretrain", "probe", "probe", "compare"]
    before = (compared[0] / "report.html").read_bytes()
    cli.run("compare", commands[-1][2:])
    assert (compared[0] / "report.html").read_bytes() == before


def test_images_in_another_order_are_the_same_images(road, compared, tmp_path):
    shutil.copytree(road.run_dir, tmp_path / "other")
    path = tmp_path / "other" / "single" / "predictions.npz"
    with np.load(path) as held:
        fields = dict(held)
    order = np.random.default_rng(0).permutation(len(fields["labels"]))
    for name in ("image_ids", "labels", "groups"):
        fields[name] = fields[name][order]
    np.savez(path, **{**fields, "probabilities": fields["probabilities"][:, order]})
    content = compare(tmp_path / "report", road.run_dir, f"{tmp_path / 'other'}:single")
    expected = [row["difference"] for row in compared[1]["differences"]]
    assert [row["difference"] for row in content["differences"]] == pytest.approx(expected)


def test_other_test_images_are_refused(road, tmp_path):
    shutil.copytree(road.run_dir, tmp_path / "other")
    path = tmp_path / "other" / "single" / "predictions.npz"
    with np.load(path) as held:
        fields = dict(held)
    fields["image_ids"] = np.array([f"other{index}" for index in range(len(fields["labels"]))])
    np.savez(path, **fields)
    with pytest.raises(UserError, match=r"tested on different images .*same split"):
        compare(tmp_path / "report", road.run_dir, f"{tmp_path / 'other'}:single")
    assert not (tmp_path / "report").exists()


def test_mistakes_are_told(road, tmp_path):
    (tmp_path / "something").mkdir()
    (tmp_path / "something" / "photo.jpg").touch()
    run, new = road.run_dir, tmp_path / "new"
    cases = [
        ([run], new, "two probes or more, not 1"),
        ([], new, "two probes or more, not 0"),
        ([run, f"{run}:probe"], new, "given twice"),
        ([run, f"{run}:nosuch"], new, r"no finished probe 'nosuch' \(finished: probe, single\); run `bitkeras probe"),
        ([run, tmp_path / "something"], new, "is no run folder"),
        ([run, f"{run}:single"], tmp_path / "something", "holds files that are no report"),
    ]
    for runs, output_dir, told in cases:
        with pytest.raises(UserError, match=told):
            compare(output_dir, *runs)
    assert not new.exists()


def test_a_probe_of_an_earlier_version_has_no_answers(road, tmp_path):
    shutil.copytree(road.run_dir, tmp_path / "old")
    (tmp_path / "old" / "probe" / "predictions.npz").unlink()
    with pytest.raises(UserError, match="predictions.npz; run `bitkeras probe` again under another --name"):
        compare(tmp_path / "report", road.run_dir, tmp_path / "old")


def made_run(folder, *, probe="probe", rows=(), command="probe", **config) -> tuple[RunFolder, str]:
    run = RunFolder(folder)
    run.write_json(run.config_path, {"weights": "none", "epochs": 3, "norm": "batch", "method": "simsiam", **config})
    run.write_json(run.path / probe / "scores.json", list(rows))
    run.write_json(run.path / probe / "config.json", {"command": command})
    return run, probe


def test_names_tell_no_more_than_they_must(tmp_path):
    one, two = made_run(tmp_path / "x" / "one"), made_run(tmp_path / "x" / "two")
    made_run(tmp_path / "x" / "one", probe="b")
    tuned = made_run(tmp_path / "x" / "one", probe="finetune", command="finetune")
    byol = made_run(tmp_path / "x" / "three", method="byol")
    again = made_run(tmp_path / "y" / "one")
    what = "simsiam from random weights, 3 epochs"
    assert distinct_names([one, byol]) == [what, "byol from random weights, 3 epochs"]
    assert distinct_names([one, tuned]) == [what, f"{what}, fine-tuned"]
    assert distinct_names([one, two]) == [f"{what} (one)", f"{what} (two)"]
    assert distinct_names([one, (one[0], "b")]) == [f"{what} (one:probe)", f"{what} (one:b)"]
    assert distinct_names([one, again]) == [f"{what} ({tmp_path}/x/one:probe)", f"{what} ({tmp_path}/y/one:probe)"]


def test_baselines_of_several_probes(tmp_path):
    def row(name, value, **more):
        return {"name": name, "balanced_accuracy": value, "baseline": True, **more}

    first = made_run(tmp_path / "a", rows=[row("simsiam", 0.6, baseline=False), row("random", 0.3), row("pixels", 0.2)])
    second = made_run(tmp_path / "b", rows=[row("random", 0.35), row("pixels", 0.2)])
    found = baselines([first, second])
    assert [arm["name"] for arm in found] == ["random", "pixels", "random (b:probe)"]
    assert len({arm["id"] for arm in found}) == 3 and all(arm["baseline"] for arm in found)


def test_pairs_and_audits():
    assert compared_pairs(["a", "b", "c"]) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert compared_pairs(list("abcdef")) == [("a", other) for other in "bcdef"]
    same = [{"leakage": ["none"]}, {"leakage": ["none"]}]
    assert leakage_lines(["x", "y"], same) == ["none"]
    assert leakage_lines(["x", "y"], [same[0], {"leakage": ["some"]}]) == ["x: none", "y: some"]
