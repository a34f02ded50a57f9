"""What made a result: versions and commit."""

from __future__ import annotations

import functools
import platform
import subprocess
from pathlib import Path

import tensorflow as tf

import bitkeras

ROOT = Path(__file__).resolve().parents[1]


def provenance() -> dict:
    """Versions and commit, for a record."""
    versions = {"bitkeras": bitkeras.__version__, "python": platform.python_version(), "tensorflow": tf.__version__}
    return {"versions": versions, "commit": find_commit()}


@functools.cache
def find_commit(root: Path = ROOT) -> str | None:
    """The commit of the checkout that runs, with "+" behind it where files differ; None outside of one."""
    if not (root / ".git").exists():
        return None
    try:
        head, changes = (
            subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, check=True, timeout=30).stdout
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return head.strip() + ("+" if changes.strip() else "")
