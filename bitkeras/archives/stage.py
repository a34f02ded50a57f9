"""The folder that a job fills beside its output, and which takes the output's name when all is there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from bitkeras.archives.storage import gfile, is_remote, read_json, write_json, write_text, written_whole
from bitkeras.errors import UserError


class Stage:
    """OUTPUT, and beside it `.OUTPUT.partial` and `.OUTPUT.work`.

    Attributes:
      output: what the user named.
      path: the folder beside it with what is to be published.
      work: the other one: `job.json` (what the job was asked), `tables` and `reports` of its shards, and files that are
        being written.
      record: the name of the file with what the job was asked and found; it is written last.
    """

    def __init__(self, output: str, record: str):
        self.output = output.rstrip("/") if is_remote(output) else os.path.abspath(output)
        parent, name = os.path.split(self.output)
        if not name or parent.endswith(":"):
            raise UserError(f"{output} has no folder above it to write beside; pass a folder in it.")
        self.path, self.work = (os.path.join(parent, f".{name}.{kind}") for kind in ("partial", "work"))
        self.record = record

    def finished(self, asked: dict) -> dict | None:
        """The record of a job that has finished; None where the output is still free.

        Raises:
          UserError: there is something else, or it was made with other flags.
        """
        complete = read_json(os.path.join(self.path, self.record))
        if complete is not None:
            # Stopped before it was renamed.
            self._require_same(asked, complete["asked"], self.path)
            self._rename()
        if not gfile.exists(self.output) or (gfile.isdir(self.output) and not gfile.listdir(self.output)):
            return None
        record = read_json(os.path.join(self.output, self.record)) if gfile.isdir(self.output) else None
        if record is None:
            raise UserError(f"{self.output} holds something else (no {self.record}); pass a new or empty folder.")
        self._require_same(asked, record["asked"], self.output)
        self._clean_up()
        return record

    def start(self, asked: dict) -> None:
        """Begins a job, or goes on with one.

        Raises:
          UserError: an unfinished job was asked something else, or the folder cannot be written to.
        """
        recorded = read_json(self._job_path)
        if recorded is not None:
            self._require_same(asked, recorded, self.work)
        else:
            write_json(self._job_path, asked, beside=self._scratch)

    def table_path(self, shard: str) -> str:
        """Where a worker reads what its shard is made of."""
        return os.path.join(self.work, "tables", f"{_flat(shard)}.json")

    def report_path(self, shard: str) -> str:
        """Where it tells, last of all, what it has made of it."""
        return os.path.join(self.work, "reports", f"{_flat(shard)}.json")

    def num_reports(self) -> int:
        """How many shards have been told of."""
        folder = os.path.join(self.work, "reports")
        return len(gfile.listdir(folder)) if gfile.exists(folder) else 0

    @contextlib.contextmanager
    def written(self, name: str) -> Iterator[str]:
        """A path to write to, which becomes the file `name` of what is published when the block succeeds."""
        with written_whole(os.path.join(self.path, name), beside=self._scratch) as scratch:
            yield scratch

    def write_text(self, name: str, text: str | bytes) -> None:
        """Writes a file of what is published."""
        write_text(os.path.join(self.path, name), text, beside=self._scratch)

    def write_table(self, shard: str, table: dict) -> None:
        """Writes what `table_path` names."""
        write_json(self.table_path(shard), table, beside=self._scratch)

    def write_report(self, shard: str, report: dict) -> None:
        """Writes what `report_path` names."""
        write_json(self.report_path(shard), report, beside=self._scratch)

    def remove(self, shard: str) -> None:
        """Takes a shard back, its report first."""
        if gfile.exists(self.report_path(shard)):
            gfile.remove(self.report_path(shard))
        self.remove_file(shard)

    def remove_file(self, name: str) -> None:
        """Takes a file of what is published back, where it is there."""
        path = os.path.join(self.path, name)
        if gfile.exists(path):
            gfile.remove(path)

    def publish(self, record: dict) -> None:
        """Gives the output's name to all that was written: on a disk in one step, in a bucket file by file.

        Args:
          record: what the job has found.
        """
        path = os.path.join(self.path, self.record)
        write_json(path, {"asked": read_json(self._job_path), **record}, beside=self._scratch)
        self._rename()

    @property
    def _job_path(self) -> str:
        return os.path.join(self.work, "job.json")

    @property
    def _scratch(self) -> str:
        return os.path.join(self.work, "scratch")

    def _rename(self) -> None:
        if is_remote(self.output):
            # A bucket has no folders to rename. The record comes last, so where it is, all is.
            names = [os.path.relpath(os.path.join(folder, name), self.path) for folder, name in _files(self.path)]
            for name in sorted(names, key=lambda name: (name == self.record, name)):
                target = os.path.join(self.output, name)
                gfile.makedirs(os.path.dirname(target))
                gfile.rename(os.path.join(self.path, name), target, overwrite=True)
            gfile.rmtree(self.path)
        else:
            # An empty folder, as `finished` has seen, gives way.
            os.rename(self.path, self.output)
        self._clean_up()

    def _clean_up(self) -> None:
        if gfile.exists(self.work):
            gfile.rmtree(self.work)

    @staticmethod
    def _require_same(asked: dict, recorded: dict, where: str) -> None:
        # Images may have moved; which they are, the fingerprint says.
        keys = sorted(key for key in {*asked, *recorded} if asked.get(key) != recorded.get(key) and key in asked)
        differing = [f"--{key}={asked[key]} (recorded: {recorded.get(key)})" for key in keys if key != "images"]
        if differing:
            raise UserError(
                f"{where} was started with other flags: {', '.join(differing)}; use the recorded ones, pass another "
                "folder, or delete this one."
            )
        if "images" in keys:
            raise UserError(
                f"{where} was started on other images or other facts about them; pass another folder, or delete this "
                "one to start over."
            )


def _files(path: str) -> list[tuple[str, str]]:
    """(folder, name) of every file below `path`."""
    return [(folder, name) for folder, _, names in gfile.walk(path) for name in names]


def _flat(shard: str) -> str:
    return shard.replace("/", "__")
