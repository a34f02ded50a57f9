"""The files that TensorFlow Serving is started with, as protobuf's text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bitkeras.errors import UserError
from bitkeras.files import written_atomically
from export.versions import list_versions

MONITORING = """prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""
# Requests that come within 5 ms are computed together. That gains nothing on two cores (measured), so it is for a GPU
# and takes --enable_batching. The last allowed size must be the largest batch.
BATCHING = """max_batch_size { value: 16 }
batch_timeout_micros { value: 5000 }
max_enqueued_batches { value: 64 }
num_batch_threads { value: %d }
allowed_batch_sizes: 1
allowed_batch_sizes: 2
allowed_batch_sizes: 4
allowed_batch_sizes: 8
allowed_batch_sizes: 16
"""


def write_configuration(
    models: Mapping[str, Path],
    output_dir: str | Path,
    *,
    base_path: str = "/models",
    labels: Mapping[str, int] | None = None,
    num_batch_threads: int = 2,
) -> list[Path]:
    """Write models.config, monitoring.config and batching.config.

    Args:
      models: {name: folder of versions}.
      output_dir: made if needed.
      base_path: where the server sees the folders of the models.
      labels: {label: version} of a single model; it serves these versions only.
      num_batch_threads: cores of the server.

    Returns:
      The files.

    Raises:
      UserError: a label for several models or for a version that is not there.
    """
    labels = dict(labels or {})
    if labels:
        _require_versions(models, labels)
    contents = {
        "models.config": _models_config(models, base_path, labels),
        "monitoring.config": MONITORING,
        "batching.config": BATCHING % num_batch_threads,
    }
    for name, text in contents.items():
        with written_atomically(Path(output_dir) / name) as path:
            path.write_text(text, encoding="utf-8")
    return [Path(output_dir) / name for name in contents]


def _require_versions(models: Mapping[str, Path], labels: Mapping[str, int]) -> None:
    if len(models) > 1:
        raise UserError(f"Labels are of one model and {', '.join(models)} are several; pass the folder of one.")
    (folder,) = models.values()
    present = list_versions(folder)
    for label, version in labels.items():
        if version not in present:
            there = ", ".join(map(str, present))
            # TensorFlow Serving would refuse the whole file.
            raise UserError(f"The label {label} is for version {version}, which {folder} lacks; present: {there}.")


def _models_config(models: Mapping[str, Path], base_path: str, labels: Mapping[str, int]) -> str:
    return (
        "model_config_list {\n"
        + "".join(_model_config(name, f"{base_path}/{folder.name}", labels) for name, folder in models.items())
        + "}\n"
    )


def _model_config(name: str, base_path: str, labels: Mapping[str, int]) -> str:
    lines = [f"name: {_quoted(name)}", f"base_path: {_quoted(base_path)}", 'model_platform: "tensorflow"']
    if labels:
        versions = "".join(f" versions: {version}" for version in sorted(set(labels.values())))
        lines.append(f"model_version_policy {{ specific {{{versions} }} }}")
        lines += [f'version_labels {{ key: "{label}" value: {version} }}' for label, version in labels.items()]
    return "  config {\n" + "".join(f"    {line}\n" for line in lines) + "  }\n"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
