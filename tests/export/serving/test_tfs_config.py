"""The files of TensorFlow Serving, read by its own messages."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from bitkeras.errors import UserError
from export.serving.server import find_models
from export.serving.tfs_config import write_configuration


@pytest.fixture
def push_dir(tmp_path):
    for name in ("ham/1", "ham/3", 'cifar "ten"/2', "notes"):
        (tmp_path / "models" / name).mkdir(parents=True)
    return tmp_path / "models"


def read(path):
    return text_format.Parse(path.read_text(), model_server_config_pb2.ModelServerConfig())


def test_all_models_of_a_folder_are_served_by_their_newest(push_dir, tmp_path):
    models_file, monitoring, batching = write_configuration(find_models(push_dir), tmp_path / "out")
    rows = read(models_file).model_config_list.config
    assert [(row.name, row.base_path, row.model_platform) for row in rows] == [
        ('cifar "ten"', '/models/cifar "ten"', "tensorflow"),
        ("ham", "/models/ham", "tensorflow"),
    ]
    assert not any(row.HasField("model_version_policy") or row.version_labels for row in rows)
    assert 'path: "/monitoring/prometheus/metrics"' in monitoring.read_text()
    sizes = [int(line.split()[1]) for line in batching.read_text().splitlines() if line.startswith("allowed")]
    assert sizes == sorted(sizes) and f"max_batch_size {{ value: {sizes[-1]} }}" in batching.read_text()


def test_labels_pin_versions(push_dir, tmp_path):
    models = find_models(push_dir / "ham", "lesions")
    models_file, *_ = write_configuration(models, tmp_path, base_path="/srv", labels={"stable": 1, "canary": 3})
    (row,) = read(models_file).model_config_list.config
    assert (row.name, row.base_path) == ("lesions", "/srv/ham")
    assert list(row.model_version_policy.specific.versions) == [1, 3]
    assert dict(row.version_labels) == {"stable": 1, "canary": 3}


def test_labels_that_tensorflow_serving_would_refuse_are_told(push_dir, tmp_path):
    with pytest.raises(UserError, match="canary is for version 2, which .* lacks; present: 1, 3"):
        write_configuration(find_models(push_dir / "ham"), tmp_path / "out", labels={"canary": 2})
    with pytest.raises(UserError, match="pass the folder of one"):
        write_configuration(find_models(push_dir), tmp_path / "out", labels={"stable": 1})
    assert not (tmp_path / "out").exists()


def test_folders_without_versions_are_told(push_dir):
    with pytest.raises(UserError, match="no version of a model in .*notes"):
        find_models(push_dir / "notes")
    with pytest.raises(UserError, match="--model_name=one fits none"):
        find_models(push_dir, "one")
