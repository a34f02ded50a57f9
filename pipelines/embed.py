"""Compute the features of an archive of images.

OUTPUT_DIR gets features-00000-of-00012.npz and so on, each with image_ids, str [n], features, float32 [n, D], and
where the images have labels classes, str [n]; numpy.load reads them. The encoder is that of a run, a .keras file, or
what `bitkeras push` published. Stopped, the same command goes on with the shards that are missing; nothing is seen in
OUTPUT_DIR before all of it is there. Flags of Apache Beam follow after a --, as with `bitkeras ingest`.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from bitkeras.archives.encoders import Encoder
from bitkeras.archives.features import FeatureWriter
from bitkeras.archives.job import Job
from bitkeras.archives.shards import cut
from bitkeras.archives.stage import Stage
from bitkeras.archives.storage import gfile, is_remote
from bitkeras.errors import UserError
from bitkeras.runs import RunFolder
from export.versions import list_versions, version_path
from pipelines import archive
from pipelines.command_flags import CommandFlags
from pipelines.probe import require_finished
from pipelines.runtime import say

# What stands after -- is for Beam.
TAKES_ARGUMENTS = True
RECORD = "embed.json"

FLAGS = CommandFlags()
archive.define_archive_flags(
    FLAGS,
    images_per_shard=1000,
    num_workers=1,
    workers="one keeps all cores of a machine busy where the network is deep",
)
FLAGS.text("encoder", None, "A run folder, a .keras file, or what was pushed: its folder or a version.", required=True)
FLAGS.integer("image_size", None, "px; none: that of the run. A pushed SavedModel has its own.", at_least=1)
FLAGS.integer("batch_size", 32, "Images encoded together, by each worker.", at_least=1)


def main(positional: list[str]) -> None:
    """Flags become plain arguments."""
    embed(FLAGS.values(), archive.beam_options(positional))


def embed(config: dict, options: list[str]) -> None:
    """Writes the features.

    Args:
      config: the flags above, name -> value.
      options: flags of Beam.

    Raises:
      UserError: the images, the encoder or the output folder cannot be used.
    """
    encoder = find_encoder(config["encoder"], config["image_size"])
    wanted = {**archive.asked(config), "image_size": encoder.image_size, "encoder": encoder.checksum()}
    # Rounding apart, nothing depends on it.
    del wanted["batch_size"]
    stage = Stage(config["output_dir"], RECORD)
    place = archive.place_of(config)
    source = archive.read_place(place)
    shards = cut(np.arange(len(source)), "features", ".npz", images_per_shard=config["images_per_shard"])
    job = Job(stage, source, shards)
    if archive.is_finished(job, wanted):
        return
    writing = {"batch_size": config["batch_size"], "keep_incomplete": config["on_bad_image"] == "skip"}
    make_worker = functools.partial(FeatureWriter, stage, place, encoder, **writing)
    reports, bad = archive.run(job, wanted, make_worker, config, options)
    (written,) = job.reconcile(reports, bad).values()
    (num_features,) = {report["num_features"] for report in reports.values()}
    found = {"num_images": written["num_images"], "num_bad_images": len(bad), "num_features": num_features}
    stage.publish({**found, "encoder": encoder.path})
    say(f"{stage.output}: {num_features} features of {found['num_images']} images in {len(shards)} files")


def find_encoder(path: str, image_size: int | None) -> Encoder:
    """What --encoder and --image_size mean.

    Raises:
      UserError: there is no encoder, or it is not known for what size of images.
    """
    if is_remote(path):
        return find_remote_encoder(path, image_size)
    place = Path(path)
    if list_versions(place) or (place / "saved_model.pb").is_file():
        refuse_image_size(path, image_size)
        return Encoder(str((version_path(place) if list_versions(place) else place).absolute()))
    run = RunFolder(place.parent if place.is_file() else place)
    if place.is_dir():
        config = run.config()
        require_finished(run)
        return Encoder(str(run.encoder_path.absolute()), image_size or config["image_size"])
    if not place.is_file() or place.suffix != ".keras":
        raise UserError(f"--encoder={path} is no run folder, .keras file or pushed SavedModel; pass one of these.")
    if image_size is None and not run.config_path.is_file():
        raise UserError(f"It is not known what size of images {path} was trained on; pass it as --image_size.")
    return Encoder(str(place.absolute()), image_size or run.config()["image_size"])


def find_remote_encoder(path: str, image_size: int | None) -> Encoder:
    """As `find_encoder`, in a bucket: one version of what was pushed, or a .keras file."""
    if gfile.exists(f"{path}/saved_model.pb"):
        refuse_image_size(path, image_size)
        return Encoder(path)
    if not path.endswith(".keras") or not gfile.exists(path):
        raise UserError(
            f"--encoder={path} is neither a .keras file nor one version of a pushed SavedModel; in a bucket, pass one."
        )
    if image_size is None:
        raise UserError(f"It is not known what size of images {path} was trained on; pass it as --image_size.")
    return Encoder(path, image_size)


def refuse_image_size(path: str, image_size: int | None) -> None:
    """UserError where a size is given for a SavedModel."""
    if image_size is not None:
        raise UserError(f"--image_size={image_size} is not for the SavedModel {path}, which has its own; leave it out.")


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["embed", *sys.argv[1:]])
