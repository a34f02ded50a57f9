"""Turn an archive of images into sharded, compressed TFRecords.

OUTPUT_DIR gets Split-train/ and Split-eval/ with data_tfrecord-00000-of-00012.gz and so on, which --dataset=tfrecord,
tf.data and TFX read, schema.pbtxt, stats/, split.csv and ingest.json. Every image is decoded once to see that it can be
used. Stopped, the same command goes on with the shards that are missing; nothing is seen in OUTPUT_DIR before all of
it is there and its counts are those of the source. The test part of --split becomes Split-eval, all else Split-train.
Flags of Apache Beam follow after a --: bitkeras ingest ... --runner=FlinkRunner -- --flink_master=HOST:8081.
"""

from __future__ import annotations

import collections
import functools
import os
from collections.abc import Sequence

import numpy as np

from bitkeras.archives.job import Job, as_file
from bitkeras.archives.metadata import Column, columns_of, make_schema, make_statistics
from bitkeras.archives.pictures import JPEG_QUALITY
from bitkeras.archives.records import RecordWriter
from bitkeras.archives.shards import Shard, cut
from bitkeras.archives.stage import Stage
from bitkeras.data.bad_images import BadImage
from bitkeras.data.ingested import RECORD
from bitkeras.data.split_files import save_split
from bitkeras.data.splits import UNUSED, Split
from pipelines import archive
from pipelines.command_flags import CommandFlags
from pipelines.runtime import say
from pipelines.splitting import define_split_flags, settled_split, whole_split, with_lesions_of_table

# What stands after -- is for Beam.
TAKES_ARGUMENTS = True
TRAIN, EVAL = "Split-train", "Split-eval"

FLAGS = CommandFlags()
archive.define_archive_flags(FLAGS, images_per_shard=1000, num_workers=None, workers="none: as many as cores")
define_split_flags(FLAGS, "Which images are the test part, that is Split-eval.")
FLAGS.integer("seed", 0, "Of the split and of the order in the shards.", at_least=0)
FLAGS.integer(
    "image_size",
    None,
    f"px of the shorter side of what is larger, encoded anew (JPEG with quality {JPEG_QUALITY}, PNG stays PNG); none: "
    "the files as they are.",
    at_least=1,
)


def main(positional: list[str]) -> None:
    """Flags become plain arguments."""
    ingest(FLAGS.values(), archive.beam_options(positional))


def ingest(config: dict, options: list[str]) -> None:
    """Writes the records.

    Args:
      config: the flags above, name -> value.
      options: flags of Beam.

    Raises:
      UserError: the images or the output folder cannot be used.
    """
    config = {**settled_split(config), "num_workers": config["num_workers"] or os.cpu_count()}
    stage, wanted = Stage(config["output_dir"], RECORD), archive.asked(config)
    place = archive.place_of(config)
    source = with_lesions_of_table(archive.read_place(place), config)
    split = whole_split(source, config, needed=())
    say(f"{split.summary()}; test is {EVAL}, all else {TRAIN}")
    job = Job(stage, source, plan(split, config), split.parts)
    if archive.is_finished(job, wanted):
        return
    writing = {"image_size": config["image_size"], "keep_incomplete": config["on_bad_image"] == "skip"}
    reports, bad = archive.run(job, wanted, functools.partial(RecordWriter, stage, place, **writing), config, options)
    written = job.reconcile(reports, bad)
    describe(job, reports, bad)
    kept = np.flatnonzero((split.parts != UNUSED) & ~np.isin(source.image_ids, [image.image_id for image in bad]))
    written_split, written_source = Split(split.parts[kept]), source.take(kept)
    stage.write_text("split.csv", as_file(lambda path: save_split(written_split, written_source, path)))
    num_images = sum(counts["num_images"] for counts in written.values())
    found = {"num_images": num_images, "num_bad_images": len(bad), "splits": written}
    stage.publish({"class_names": list(source.class_names), **found})
    told = ", ".join(f"{folder} {counts['num_images']}" for folder, counts in written.items())
    say(f"{stage.output}: {told}; read it with --dataset=tfrecord --data_dir={stage.output}")


def plan(split: Split, config: dict) -> list[Shard]:
    """The shards of both splits. Their order is random: a reader of a few shards sees all classes."""
    is_eval, is_used = split.parts == "test", split.parts != UNUSED
    shards = []
    for number, (folder, chosen) in enumerate({TRAIN: is_used & ~is_eval, EVAL: is_eval}.items()):
        indices = np.random.default_rng([config["seed"], number]).permutation(np.flatnonzero(chosen))
        shards += cut(indices, f"{folder}/data_tfrecord", ".gz", images_per_shard=config["images_per_shard"])
    return shards


def describe(job: Job, reports: dict[str, dict], bad: list[BadImage]) -> None:
    """Writes schema and statistics of what the shards hold."""
    is_bad = np.isin(job.source.image_ids, [image.image_id for image in bad])
    for folder in dict.fromkeys(shard.folder for shard in job.shards):
        shards = [shard for shard in job.shards if shard.folder == folder]
        sizes = np.concatenate([np.array(reports[shard.name]["num_bytes"], np.int64) for shard in shards])
        name = folder.removeprefix("Split-")
        statistics = make_statistics(name, _columns(job, shards, reports, is_bad), sizes)
        job.stage.write_text(f"stats/{folder}/FeatureStats.pb", statistics)
    schema = make_schema(_columns(job, job.shards, reports, is_bad), job.source.class_names)
    job.stage.write_text("schema.pbtxt", schema)


def _columns(job: Job, shards: Sequence[Shard], reports: dict[str, dict], is_bad: np.ndarray) -> dict[str, Column]:
    indices = np.concatenate([shard.indices for shard in shards])
    indices = indices[~is_bad[indices]]
    formats = collections.Counter()
    for shard in shards:
        formats.update(reports[shard.name]["formats"])
    return columns_of(job.source.take(indices), job.parts[indices], formats)


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["ingest", *sys.argv[1:]])
