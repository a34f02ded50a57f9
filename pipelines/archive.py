"""What the commands for whole archives share: their flags, and the road from images to a folder of shards."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from absl import flags

from bitkeras.archives.beam import RUNNERS, run_tasks
from bitkeras.archives.job import Job
from bitkeras.archives.shards import Place
from bitkeras.archives.stage import Stage
from bitkeras.data import DATASETS
from bitkeras.data.source import require_folder
from bitkeras.errors import UserError
from pipelines.command_flags import CommandFlags
from pipelines.images import define_bad_image_flag
from pipelines.runtime import READER_OPTIONS, define_data_flags, say

# Flags that say how a job is carried out and not what comes out of it, so they may differ when it goes on.
CONDUCT = ("data_dir", "worker_data_dir", "output_dir", "on_bad_image", "runner", "num_workers")


def define_archive_flags(flags_: CommandFlags, *, images_per_shard: int, num_workers: int | None, workers: str) -> None:
    """Data flags, and those of output, shards, bad images and runner.

    Args:
      flags_: of the command.
      images_per_shard, num_workers: the defaults.
      workers: what the help says of `num_workers`.
    """
    define_data_flags(flags_, DATASETS)
    flags_.text("output_dir", None, "A new or empty folder; it appears when all is there.", required=True)
    define_bad_image_flag(flags_)
    define_job_flags(flags_, images_per_shard=images_per_shard, num_workers=num_workers, workers=workers)


def define_job_flags(
    flags_: CommandFlags, *, images_per_shard: int, num_workers: int | None, workers: str, images: str = "--data_dir"
) -> None:
    """Flags of shards and runner; `images` is the flag that says where the images are."""
    flags_.integer("images_per_shard", images_per_shard, "At most; what a stop can cost a worker.", at_least=1)
    flags_.choice("runner", "DirectRunner", RUNNERS, "Of Apache Beam, whose own flags follow after a --.")
    flags_.integer("num_workers", num_workers, f"Threads of the DirectRunner; {workers}.", at_least=1)
    flags_.text(
        "worker_data_dir", None, f"How workers elsewhere see {images}, as gs://bucket/folder; none: at the same path."
    )


def beam_options(positional: Sequence[str]) -> list[str]:
    """What stands after -- on the command line.

    Raises:
      flags.Error: it is no list of flags, or names the runner.
    """
    for option in positional:
        if not option.startswith("--"):
            raise flags.Error(f"{option} stands without a flag; after -- come flags of Beam, given as --flag=value")
        if option.partition("=")[0] == "--runner":
            raise flags.Error(f"{option} goes before the --, as a flag of bitkeras")
    return list(positional)


def place_of(config: dict) -> Place:
    """Where the images are.

    Raises:
      UserError: there is no such folder or file.
    """
    # Phantoms are not drawn anew, least of all by every worker.
    data_dir = Path(config["data_dir"])
    if not data_dir.is_file():
        require_folder(data_dir)
    options = {option: config[option] for option in READER_OPTIONS}
    return Place(config["dataset"], str(data_dir.absolute()), options, config["worker_data_dir"])


def read_place(place: Place):
    """All images, told in a line.

    Raises:
      UserError: workers elsewhere cannot find them.
    """
    source = place.read()
    say(source.summary())
    if place.worker_data_dir is not None and (source.paths is None or source.converted is not None):
        raise UserError(
            f"--worker_data_dir is for images that are files of their own, and those of --dataset={place.dataset} are "
            "not; mount the folder on the workers at the path of --data_dir and leave it out."
        )
    return source


def asked(config: dict) -> dict:
    """The flags that decide what comes out."""
    return {name: value for name, value in config.items() if name not in CONDUCT}


def is_finished(job: Job, wanted: dict) -> bool:
    """True, and told, where the output is there already.

    Raises:
      UserError: there is something else, or it is of other images.
    """
    record = job.finished(wanted)
    if record is None:
        return False
    say(f"{job.stage.output} is already finished ({record['num_images']} images); nothing to do.")
    return True


def run(job: Job, wanted: dict, make_worker: Callable, config: dict, options: Sequence[str]) -> tuple[dict, list]:
    """Has all shards written that are not there yet.

    Args:
      job: what is to be done.
      wanted: the flags that decide what comes out.
      make_worker: makes what writes a shard of a given name.
      config: all flags.
      options: flags of Beam.

    Returns:
      (shard -> report, the images that were left out).

    Raises:
      UserError: images cannot be used, or a shard cannot be written.
    """
    to_do = job.start(wanted)
    num_done = len(job.shards) - len(to_do)
    say(f"{len(job.shards)} shards" + (f", going on after {num_done} of them" if num_done else ""))
    if to_do:
        progress = _Progress(job.stage, len(job.shards))
        settings = {"runner": config["runner"], "num_workers": config["num_workers"], "options": options}
        run_tasks(to_do, make_worker, **settings, tell=progress)
    reports = job.reports()
    bad = job.settle_bad_images(reports, config["on_bad_image"])
    if bad:
        say(f"{len(bad)} images cannot be used and are left out")
    return reports, bad


class _Progress:
    """A line whenever shards have been finished."""

    def __init__(self, stage: Stage, num_shards: int):
        self._stage, self._num_shards = stage, num_shards
        self._num_done, self._started = stage.num_reports(), time.perf_counter()

    def __call__(self) -> None:
        num_done = self._stage.num_reports()
        if num_done > self._num_done:
            say(f"shard {num_done} of {self._num_shards} after {time.perf_counter() - self._started:.0f} s")
            self._num_done = num_done
