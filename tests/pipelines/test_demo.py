"""The model that comes along: small, whole, without a trace of where it was made, and it answers."""

import json
import shutil

import pytest

from bitkeras.errors import UserError
from export.inspection import require_whole
from export.push import MODEL_CARD
from export.versions import list_versions
from pipelines import cli, demo

CLASSES = ["akiec", "bcc", "bkl", "df", "mel", "nv", "vasc"]


def test_it_is_small_and_its_card_and_manifest_tell_what_matters():
    manifest = require_whole(demo.DEMO)
    assert sum(path.stat().st_size for path in demo.DEMO.rglob("*") if path.is_file()) < 8e6
    assert manifest["class_names"] == CLASSES and not manifest["is_frozen"] and manifest["has_warmup"]
    assert '"/' not in json.dumps(manifest)  # no folder of the machine that made it
    card = (demo.DEMO / MODEL_CARD).read_text()
    score = manifest["metrics"]["balanced_accuracy"]["value"]
    assert "not a medical device" in card and "CC BY-NC 4.0" in card and f"| balanced accuracy | {score:.3f} (" in card


@pytest.mark.slow
def test_it_is_published_once_and_answers(phantoms, tmp_path, capsys):
    images = sorted(phantoms.rglob("*.jpg"))[:2]
    push_dir = tmp_path / "served" / "demo"
    for _ in range(2):
        cli.run("demo", [f"--push_dir={push_dir}"])
    told = capsys.readouterr().out
    assert list_versions(push_dir) == [1] and "no medical device" in told and "nothing is left to do" in told
    cli.run("inspect", [str(push_dir)])
    assert "are as they were pushed" in capsys.readouterr().out
    cli.run("predict", [f"--push_dir={push_dir}", "--json", *map(str, images)])
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 2 and all(answer["prediction"] in CLASSES for answer in answers)


def test_a_damaged_one_is_not_published(tmp_path, monkeypatch):
    damaged = tmp_path / "demo"
    shutil.copytree(demo.DEMO, damaged)
    (damaged / "saved_model.pb").write_bytes(b"")
    monkeypatch.setattr(demo, "DEMO", damaged)
    with pytest.raises(UserError, match="saved_model.pb has changed"):
        cli.run("demo", [f"--push_dir={tmp_path / 'served'}"])
    assert not (tmp_path / "served").exists()
