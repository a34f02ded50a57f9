"""A run folder: where everything of one run lies, and whether it starts, goes on or is finished."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from bitkeras.errors import UserError
from bitkeras.files import written_atomically


class RunFolder:
    """Paths and records of one run.

    `config.json` holds the arguments the run was started with, `metrics.jsonl` one row an epoch, `encoder.keras` the
    finished encoder; it appears last, so where it stands pre-training is done.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config_path = self.path / "config.json"
        self.split_path = self.path / "split.csv"
        self.bad_images_path = self.path / "bad_images.csv"
        self.leakage_path = self.path / "leakage.json"
        self.metrics_path = self.path / "metrics.jsonl"
        self.tensorboard_path = self.path / "tensorboard"
        self.checkpoints_path = self.path / "checkpoints"
        self.encoder_path = self.path / "encoder.keras"

    def snapshot_path(self, epoch: int) -> Path:
        """The encoder after `epoch`, where the run keeps it."""
        return self.path / "snapshots" / f"epoch_{epoch:04d}.keras"

    def shadow(self, folder: Path) -> RunFolder:
        """What a second process has of this run: the same checkpoints to go on from, and `folder` to write to."""
        other = RunFolder(folder)
        known = (self.config_path, self.bad_images_path, self.split_path, self.leakage_path)
        for path in (*known, self.metrics_path, self.encoder_path):
            if path.is_file():
                shutil.copy(path, folder)
        other.checkpoints_path = self.checkpoints_path
        return other

    @property
    def is_finished(self) -> bool:
        """True when pre-training has written its encoder."""
        return self.encoder_path.is_file()

    def start(self, config: dict) -> None:
        """Records `config` after `check`; call it once the input has been found usable.

        Raises:
          UserError: as `check` does.
        """
        self.check(config)
        if not self.config_path.exists():
            self.write_json(self.config_path, config)

    def check(self, config: dict) -> None:
        """Says whether a run with `config` may start or go on here; writes nothing.

        Raises:
          UserError: the folder holds something else, or was started with other arguments, naming each. Images may
            have moved, so `data_dir` may differ: the split knows them by their ids.
        """
        nearest = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not os.access(nearest, os.W_OK):
            raise UserError(f"The folder {nearest} cannot be written to; pass another --run_dir or get access to it.")
        if not self.config_path.exists():
            if self.path.is_dir() and any(self.path.iterdir()):
                raise UserError(
                    f"The folder {self.path} holds files but no config.json, so it is no run folder; pass "
                    "a new or empty one."
                )
            return
        recorded = self.config()
        keys = {*recorded, *config} - {"data_dir"}
        # A flag that is off, and one that a run of an earlier version did not know, are the same.
        differing = sorted(key for key in keys if (recorded.get(key) or None) != (config.get(key) or None))
        if differing:
            listed = ", ".join(f"--{key}={config.get(key)} (recorded: {recorded.get(key)})" for key in differing)
            raise UserError(
                f"The run {self.path} was started with other flags: {listed}; use the recorded ones to go on, or "
                "pass another folder."
            )

    def config(self) -> dict:
        """The recorded arguments.

        Raises:
          UserError: when the folder is no run folder.
        """
        if not self.config_path.is_file():
            what = "is no run folder (it has no config.json)" if self.path.is_dir() else "does not exist"
            raise UserError(f"{self.path.absolute()} {what}; pass a folder made by `bitkeras pretrain`.")
        return json.loads(self.config_path.read_text())

    def write_json(self, path: Path, value) -> None:
        """Writes `value` as indented JSON, all of it or nothing."""
        with written_atomically(path) as beside:
            beside.write_text(json.dumps(value, indent=2) + "\n")

    def metrics(self) -> list[dict]:
        """The rows of `metrics.jsonl`, one an epoch."""
        if not self.metrics_path.exists():
            return []
        text = self.metrics_path.read_text()
        # A row without its line break is half a row, of a run that was killed while it wrote.
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def append_metrics(self, row: dict) -> None:
        """Adds the row of one epoch."""
        with open(self.metrics_path, "a") as file:
            file.write(json.dumps(row) + "\n")

    def drop_metrics_after(self, epoch: int) -> None:
        """Takes out rows later than `epoch`: a killed run may have logged an epoch it has no checkpoint of."""
        rows = [row for row in self.metrics() if row["epoch"] <= epoch]
        with written_atomically(self.metrics_path) as beside:
            beside.write_text("".join(json.dumps(row) + "\n" for row in rows))
