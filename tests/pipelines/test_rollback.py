"""Which version a rollback publishes again."""

import json

import pytest

from bitkeras.errors import UserError
from export.push import MANIFEST, file_digests
from export.versions import list_versions
from pipelines.rollback import rollback


def put_version(push_dir, version, model):
    """A pushed version: its files and their manifest."""
    folder = push_dir / str(version)
    (folder / MANIFEST).parent.mkdir(parents=True)
    (folder / "saved_model.pb").write_text(model)
    (folder / MANIFEST).write_text(json.dumps({"sha256": file_digests(folder)}))


def live_model(push_dir):
    return (push_dir / str(list_versions(push_dir)[-1]) / "saved_model.pb").read_text()


def test_each_rollback_goes_one_model_further_back(tmp_path):
    for version, model in ((1, "first"), (2, "second"), (3, "third")):
        put_version(tmp_path, version, model)
    rollback(str(tmp_path), to=None)
    assert live_model(tmp_path) == "second"
    rollback(str(tmp_path), to=None)
    assert live_model(tmp_path) == "first" and list_versions(tmp_path) == [1, 2, 3, 4, 5]
    with pytest.raises(UserError, match=r"live version 5 .* is version 1 again.*name one of \[1, 2, 3, 4\] with --to"):
        rollback(str(tmp_path), to=None)
    rollback(str(tmp_path), to=3)
    assert live_model(tmp_path) == "third"


def test_a_folder_that_was_not_pushed_is_no_copy_and_is_not_published(tmp_path):
    (tmp_path / "1").mkdir()
    put_version(tmp_path, 2, "second")
    with pytest.raises(UserError, match="1 is no version that `bitkeras push` published"):
        rollback(str(tmp_path), to=None)
    assert list_versions(tmp_path) == [1, 2]


def test_of_one_version_there_is_none_before(tmp_path):
    put_version(tmp_path, 1, "first")
    with pytest.raises(UserError, match="holds only version 1, so there is none before the live one"):
        rollback(str(tmp_path), to=None)
