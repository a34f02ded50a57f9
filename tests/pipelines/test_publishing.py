"""From a probe to a version, and back: the gate, rollback, versions, inspect."""

import json
import os
import shutil

import numpy as np
import pytest

from bitkeras.errors import Refused, UserError
from bitkeras.evaluation.answers import load_answers
from export.versions import list_versions
from pipelines import cli

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served(road, tmp_path_factory):
    """A push folder of our own that holds the road's version; tests add to it."""
    push_dir = tmp_path_factory.mktemp("served") / "ham"
    shutil.copytree(road.push_dir, push_dir)
    return push_dir


def push(road, served, tmp_path, *more):
    flags = [f"--run_dir={road.run_dir}", "--name=single", f"--push_dir={served}"]
    cli.run("push", [*flags, f"--pipeline_root={tmp_path}", "--check_images=2", "--noinfra_validate", *more])


def test_the_artifacts_are_tfxs_and_the_exported_model_scores_as_the_probe(road):
    root = road.run_dir / "tfx"
    assert (root / "Evaluator" / "blessing" / "1" / "BLESSED").is_file()
    assert (root / "InfraValidator" / "blessing" / "1" / "INFRA_BLESSED").is_file()
    assert (root / "Trainer" / "model" / "1" / "Format-Serving" / "saved_model.pb").is_file()
    assert json.loads((root / "Pusher" / "pushed_model" / "1" / "pushed.json").read_text())["pushed_version"] == "1"
    card = json.loads((root / "Evaluator" / "evaluation" / "1" / "card.json").read_text())
    answers = load_answers(road.run_dir / "probe" / "predictions.npz")
    best = json.loads((road.run_dir / "probe" / "card.json").read_text())["overall"]["balanced_accuracy"]["trials"]
    assert card["overall"]["balanced_accuracy"]["value"] == pytest.approx(best[answers.best_trial])
    manifest = json.loads((road.push_dir / "1" / "assets.extra" / "export_manifest.json").read_text())
    assert manifest["metrics"] == card["overall"] and len(manifest["data"]["test_images_sha256"]) == 64


def test_the_model_card_says_what_it_is_and_is_not(road):
    card = (road.push_dir / "1" / "assets.extra" / "model_card.md").read_text()
    assert card.startswith("---\nlibrary_name: tf-keras\npipeline_tag: image-classification\n")
    assert "not a medical device" in card and "## Limits" in card and "| mel |" in card and "| sex |" in card
    assert (road.push_dir / "1" / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 1000


def test_a_refused_model_leaves_the_live_one_and_names_the_line(road, served, tmp_path):
    with pytest.raises(Refused, match=r"mel.sensitivity is \S+, at least 1 wanted; .*Version 1 stays live") as refusal:
        push(road, served, tmp_path, "--floors=balanced_accuracy=0,mel.sensitivity=1,nv.precision=1")
    assert refusal.value.exit_status == 3 and "balanced_accuracy" not in str(refusal.value).replace(" less ", "")
    assert list_versions(served) == [1] and sorted(os.listdir(served)) == ["1"]
    assert (tmp_path / "Evaluator" / "blessing" / "1" / "NOT_BLESSED").is_file()
    assert not (tmp_path / "Pusher").exists()
    with pytest.raises(Refused, match=r"size is \S+ MB, at most 0.1 MB wanted"):
        push(road, served, tmp_path, "--max_mb=0.1", "--max_latency_ms=60000")
    assert sorted(os.listdir(served)) == ["1"]


def test_versions_rollback_and_inspect(road, served, tmp_path, capsys):
    push(road, served, tmp_path, "--allow_loss")
    cli.run("rollback", [f"--push_dir={served}"])
    assert list_versions(served) == [1, 2, 3]
    cli.run("versions", [f"--push_dir={served}"])
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert [line.split()[0] for line in lines] == ["1", "2", "3"] and "balanced accuracy 0." in lines[0]
    assert [line.endswith("live") for line in lines] == [False, False, True]
    saved = [(served / version / "saved_model.pb").read_bytes() for version in ("1", "2", "3")]
    assert saved[2] == saved[0]
    cli.run("inspect", [str(served)])
    told = capsys.readouterr().out
    assert (
        "signature serving_default: image_bytes string [None] -> " in told and "files are as they were pushed" in told
    )
    with open(served / "1" / "variables" / "variables.index", "ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match="variables/variables.index has changed. Push the run again"):
        cli.run("inspect", [str(served / "1")])
    with pytest.raises(UserError, match="has changed"):
        cli.run("rollback", [f"--push_dir={served}", "--to=1"])
    with pytest.raises(UserError, match=f"holds no versions but models; name one of .*{served.name}"):
        cli.run("inspect", [str(served.parent)])
    with pytest.raises(UserError, match="Version 3 is the live one"):
        cli.run("rollback", [f"--push_dir={served}", "--to=3"])
    push(road, served, tmp_path, "--allow_loss", "--version=9", "--keep=2")
    assert list_versions(served) == [3, 9]
    assert np.isin(sorted(os.listdir(served)), ["3", "9"]).all()


def test_a_frozen_model_is_a_version_of_its_own_and_is_converted_beside(road, served, tmp_path, capsys):
    flags = ["--allow_loss", "--freeze", "--also=tflite"]
    push(road, served, tmp_path, *flags)
    told = capsys.readouterr().out
    assert "in a fresh process, to 1e-05" in told and "model.tflite: within " in told
    assert (tmp_path / "Converter" / "tflite" / "1" / "model.tflite").stat().st_size > 1000
    version = served / str(list_versions(served)[-1])
    manifest = json.loads((version / "assets.extra" / "export_manifest.json").read_text())
    assert (manifest["is_frozen"], manifest["serve_precision"]) == (True, "float32")
    # Nothing is left that a variable would be restored from.
    assert (version / "variables" / "variables.index").stat().st_size < 500
    push(road, served, tmp_path, *flags)
    assert "already holds this encoder and probe" in capsys.readouterr().out
    push(road, served, tmp_path, "--allow_loss", "--freeze", "--serve_precision=bfloat16", "--max_latency_ms=60000")
    told = capsys.readouterr().out
    assert "in a fresh process, to 0.1" in told and "the exported model on " in told
    newest = served / str(list_versions(served)[-1]) / "assets.extra" / "export_manifest.json"
    assert newest.parents[1] != version and json.loads(newest.read_text())["serve_precision"] == "bfloat16"


def test_bfloat16_is_not_converted(road, served, tmp_path):
    before = list_versions(served)
    with pytest.raises(UserError, match="--also converts models of float32, and --serve_precision is bfloat16"):
        push(road, served, tmp_path, "--also=tflite", "--serve_precision=bfloat16")
    assert list_versions(served) == before and not (tmp_path / "Trainer").exists()
