"""--cache: where the views of every epoch find their images."""

from __future__ import annotations

from pathlib import Path

from bitkeras.data.batches import Read
from bitkeras.data.cache import CACHES, read_from_disk, read_from_memory
from bitkeras.data.pictures import Shrinking
from pipelines.command_flags import CommandFlags
from pipelines.job import Job
from pipelines.runtime import say

# They say how a run is carried out: the pixels are the same.
CACHE_FLAGS = ("cache", "cache_dir")


def define_cache_flags(flags: CommandFlags) -> None:
    """--cache and --cache_dir."""
    what = "Keep the files in memory, or the decoded images on disk; says first what that takes."
    flags.choice("cache", "none", CACHES, what)
    flags.text("cache_dir", None, "Of --cache=disk; none: the folder `cache` beside the run's. Runs may share it.")


def cached(job: Job, shrinking: Shrinking) -> Read | None:
    """The images that are trained on from their cache, filled first; None without one.

    Args:
      job: with the flags.
      shrinking: by how much the policy lets images shrink while they are decoded.

    Raises:
      UserError: there is not the room.
    """
    if job.conduct["cache"] == "none":
        return None
    if job.conduct["cache"] == "memory":
        return read_from_memory(job.source, job.indices, say=say)
    folder = Path(job.conduct["cache_dir"] or job.run.path.absolute().parent / "cache")
    return read_from_disk(job.source, job.indices, folder, shrinking=shrinking, say=say)
