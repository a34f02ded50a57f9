"""A whole archive through workers: what is left to do, what came out, and whether it is all there."""

from __future__ import annotations

import collections
import dataclasses
import functools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from bitkeras.archives.shards import Shard, fingerprint, shard_table
from bitkeras.archives.stage import Stage
from bitkeras.archives.storage import read_json
from bitkeras.data import ImageSource
from bitkeras.data.bad_images import BadImage, require_few, require_none, save_bad_images
from bitkeras.errors import UserError

BAD_IMAGES = "bad_images.csv"


@dataclasses.dataclass(frozen=True)
class Job:
    """Images, and the shards that they become.

    Attributes:
      stage: where the shards are written.
      source: all images.
      shards: which of them become which file; together all that are wanted, each once.
      parts: str [N], the part of every image in the split, or None.
    """

    stage: Stage
    source: ImageSource
    shards: Sequence[Shard]
    parts: np.ndarray | None = None

    def finished(self, asked: dict) -> dict | None:
        """The record of the job where an earlier process has finished it; `asked` and errors as in `start`."""
        return self.stage.finished(self._asked(asked))

    def start(self, asked: dict) -> list[str]:
        """Begins, or goes on where an earlier process was stopped.

        Args:
          asked: flag -> value, of all that decide what comes out.

        Returns:
          The names of the shards that are still to be written. Those that lack images are among them, since the images
          may have been restored.

        Raises:
          UserError: the job was begun with other flags or images.
        """
        self.stage.start(self._asked(asked))
        to_do = []
        for name, table in self._tables.items():
            report = read_json(self.stage.report_path(name))
            if report is None or report["bad"]:
                self.stage.remove(name)
                # Also where an earlier process has written it: the images may have moved.
                self.stage.write_table(name, table)
                to_do.append(name)
        return to_do

    def _asked(self, asked: dict) -> dict:
        return {**asked, "images": fingerprint(list(self._tables.values()))}

    @functools.cached_property
    def _tables(self) -> dict[str, dict]:
        return {shard.name: shard_table(self.source, shard.indices, self.parts) for shard in self.shards}

    def reports(self) -> dict[str, dict]:
        """Shard -> what its worker told of it.

        Raises:
          UserError: a shard is missing.
        """
        reports = {shard.name: read_json(self.stage.report_path(shard.name)) for shard in self.shards}
        missing = [name for name, report in reports.items() if report is None]
        if missing:
            raise UserError(
                f"The shard {missing[0]} was not written ({len(missing)} of {len(reports)} are missing), though the "
                "runner says it is done; give the same command again, which goes on from there."
            )
        return reports

    def settle_bad_images(self, reports: dict[str, dict], on_bad_image: str) -> list[BadImage]:
        """The images that could not be used, in the order of their ids, listed in the folder of the job.

        Args:
          reports: of all shards.
          on_bad_image: "error", "skip", or "list" for any number of them.

        Raises:
          UserError: for "error" there are any, or for "skip" too many.
        """
        bad = sorted(
            (BadImage(*image) for report in reports.values() for image in report["bad"]),
            key=lambda image: image.image_id,
        )
        # An earlier process may have listed some that were restored since.
        self.stage.remove_file(BAD_IMAGES)
        if bad:
            self.stage.write_text(BAD_IMAGES, as_file(lambda path: save_bad_images(bad, path)))
        if on_bad_image == "list":
            return bad
        try:
            require_none(bad) if on_bad_image == "error" else require_few(bad, sum(len(s.indices) for s in self.shards))
        except UserError as error:
            raise UserError(
                f"{error} All are listed in {self.stage.path}/{BAD_IMAGES}; what is done is kept."
            ) from None
        return bad

    def reconcile(self, reports: dict[str, dict], bad: Sequence[BadImage]) -> dict[str, dict]:
        """Compares what the shards hold with the source, by folder and by class.

        Returns:
          Folder -> {"num_images", "classes": {class: number}} of what was written.

        Raises:
          UserError: an image was lost or came twice.
        """
        left_out = {image.image_id for image in bad}
        written = _count(self.shards, lambda shard: _of_report(reports[shard.name]))
        expected = _count(self.shards, lambda shard: _of_source(self.source, shard, left_out))
        for folder, counts in expected.items():
            for name, number in counts.items():
                if written[folder][name] != number:
                    what = f"class {name}" if name else "images in all"
                    raise UserError(
                        f"{self.stage.path}/{folder} holds {written[folder][name]} of {what}, and {self.source.name} "
                        f"has {number}; delete {self.stage.path} and {self.stage.work}, then give the command again."
                    )
        return {
            folder: {"num_images": counts.pop("", 0), "classes": dict(counts)} for folder, counts in written.items()
        }


def as_file(save: Callable[[Path], None]) -> bytes:
    """What `save` writes to a path on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.csv"
        save(path)
        return path.read_bytes()


def _count(shards: Sequence[Shard], of_shard: Callable[[Shard], collections.Counter]) -> dict[str, collections.Counter]:
    """Folder -> Counter of class -> images, with all of them under ""."""
    counts = collections.defaultdict(collections.Counter)
    for shard in shards:
        counts[shard.folder].update(of_shard(shard))
    return counts


def _of_report(report: dict) -> collections.Counter:
    return collections.Counter({"": report["num_images"], **report["classes"]})


def _of_source(source: ImageSource, shard: Shard, left_out: set[str]) -> collections.Counter:
    kept = [index for index in shard.indices if source.image_ids[index] not in left_out]
    counts = collections.Counter({"": len(kept)})
    if source.labels is not None:
        counts.update(source.class_names[source.labels[index]] for index in kept)
    return counts
