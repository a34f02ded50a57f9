"""The flags of a run that takes seconds, the command line in a process of its own, and what a folder holds."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What is no number in a row of metrics.jsonl.
WORDS = ("verdict", "evidence")
# Before a command in a process of its own: it is killed in the midst of the second epoch.
DIE_IN_EPOCH_2 = """
import os, signal
from bitkeras.callbacks import Throughput
def die(self, batch, logs=None):
    if self.epoch == 1 and batch == 1:
        os.kill(os.getpid(), signal.SIGKILL)
def begin(self, epoch, logs=None):
    self.epoch, self.started = epoch, 0.0
Throughput.on_epoch_begin, Throughput.on_train_batch_end = begin, die
"""


def pretrain_flags(data_dir, run_dir, *more: str) -> list[str]:
    """Few steps of the smallest network; float32 everywhere, whatever the processor has.

    Looking for near-duplicates would be a sixth of it.
    """
    small = ("--flagfile=smoke", "--precision=float32", "--nofind_duplicates")
    return [*small, f"--data_dir={data_dir}", f"--run_dir={run_dir}", *more]


def run_process(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess:
    """`bitkeras ARGUMENTS` in a process of its own; `code` runs before, in the same process."""
    start = ["-m", "pipelines.cli"] if code is None else ["-c", f"{code}\nfrom pipelines import cli\ncli.main()"]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    return subprocess.run(
        [sys.executable, *start, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


def fingerprint(folder: Path) -> dict[str, tuple[int, str]]:
    """{file: (time of change, sha256)} of everything below `folder`."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@dataclasses.dataclass(frozen=True)
class Road:
    """Where one run of all commands lies, and the flags of each."""

    data_dir: Path
    run_dir: Path
    push_dir: Path
    commands: dict[str, list[str]]
