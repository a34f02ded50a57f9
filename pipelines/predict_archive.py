"""`bitkeras predict --input`: a pushed model over a whole archive."""

from __future__ import annotations

import collections
import functools
from pathlib import Path

import numpy as np

from bitkeras.archives.encoders import Encoder
from bitkeras.archives.job import Job
from bitkeras.archives.shards import cut
from bitkeras.archives.stage import Stage
from bitkeras.archives.storage import is_remote
from bitkeras.data import DATASETS
from bitkeras.data.tfrecord_shards import is_shard
from bitkeras.errors import UserError
from export.archive_predictions import PredictionWriter
from export.predict import Model
from export.versions import version_path
from pipelines import archive
from pipelines.runtime import READER_OPTIONS, say

RECORD = "predict.json"
# All but the drawn ones.
INPUTS = tuple(name for name in DATASETS if name != "phantom")


def predict_archive(config: dict, options: list[str]) -> None:
    """Writes the tables of predictions.

    Args:
      config: the flags of `bitkeras predict`.
      options: flags of Beam.

    Raises:
      UserError: the images, the model or the output folder cannot be used.
    """
    version_dir = find_version(config["push_dir"], config["version"])
    wanted = {
        **{name: config[name] for name in (*READER_OPTIONS, "images_per_shard")},
        "dataset": kind_of(config["input"]) if config["dataset"] == "auto" else config["dataset"],
        "version": f"{Path(version_dir).name}, sha256 {Encoder(version_dir).checksum()[:16]}",
    }
    config = {**config, "data_dir": config["input"], "dataset": wanted["dataset"], "on_bad_image": "list"}
    class_names = Model(version_dir).class_names
    stage, place = Stage(config["output_dir"], RECORD), archive.place_of(config)
    source = archive.read_place(place)
    shards = cut(np.arange(len(source)), "predictions", ".csv", images_per_shard=config["images_per_shard"])
    job = Job(stage, source, shards)
    if archive.is_finished(job, wanted):
        return
    make_worker = functools.partial(PredictionWriter, stage, place, version_dir, batch_size=config["batch_size"])
    reports, bad = archive.run(job, wanted, make_worker, config, options)
    (written,) = job.reconcile(reports, bad).values()
    counts = collections.Counter()
    for report in reports.values():
        counts.update(report["predictions"])
    predictions = {name: counts[name] for name in class_names}
    found = {"num_images": written["num_images"], "num_bad_images": len(bad), "predictions": predictions}
    stage.publish({**found, "model": version_dir, "class_names": list(class_names)})
    told = ", ".join(f"{name} {number}" for name, number in predictions.items())
    say(f"{stage.output}: {found['num_images']} images in {len(shards)} files; predicted {told}")


def find_version(push_dir: str, version: int | None) -> str:
    """The folder of the SavedModel; in a bucket, --push_dir is one version.

    Raises:
      UserError: there is none.
    """
    if not is_remote(push_dir):
        return str(Path(version_path(push_dir, version)).absolute())
    if version is not None:
        raise UserError(
            f"--push_dir={push_dir} lies in a bucket; pass the folder of one version and leave out --version."
        )
    return push_dir.rstrip("/")


def kind_of(place: str) -> str:
    """What --dataset=auto means for a folder or file.

    Raises:
      UserError: there is no such place, or it is a file of another kind.
    """
    path = Path(place)
    if path.is_dir():
        return "tfrecord" if any(map(is_shard, path.rglob("*"))) else "unlabelled_folder"
    if not path.is_file():
        raise UserError(f"--input={place} does not exist; pass a folder of images, a .csv table, or TFRecords.")
    if is_shard(path):
        return "tfrecord"
    if path.suffix.lower() == ".csv":
        return "csv"
    raise UserError(
        f"--input={place} is a file and neither a .csv table nor TFRecords; pass one of these or a folder, or say with "
        "--dataset what it is."
    )
