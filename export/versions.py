"""Numbered version folders as TF Serving reads them: staged beside, renamed into place, never overwritten.

TF Serving polls its base folder every second and loads any child whose name parses as an integer, also one
that is half copied (and then retries it only after 60 s). So a version must appear in one step.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import socket
from pathlib import Path

from bitkeras.errors import UserError

_STAGE = re.compile(r"\.tmp-(\d+)-([0-9a-f]{8})-(.+)")
_INT64_MAX = 2**63 - 1


def list_versions(push_dir: str | Path) -> list[int]:
    """The versions below `push_dir` in ascending order; empty where there is none or no such folder."""
    return sorted(_entries(push_dir))


def latest_version(push_dir: str | Path) -> int | None:
    """The highest version, which TF Serving serves by default; None where there is none."""
    return max(_entries(push_dir), default=None)


def next_version(push_dir: str | Path) -> int:
    """The highest version + 1; the first is 1, since some clients send 0 for "latest"."""
    return max([0, *_entries(push_dir)]) + 1


def version_path(push_dir: str | Path, version: int | None = None) -> Path:
    """The folder of `version` (default: the latest), or a UserError that lists what is there."""
    entries = _entries(push_dir)
    wanted = max(entries, default=None) if version is None else version
    if wanted not in entries:
        there = ", ".join(map(str, sorted(entries))) or "none"
        raise UserError(
            f"{push_dir} holds no version {'at all' if version is None else version}; present: {there}; "
            "push a model first or name one that is present."
        )
    return Path(push_dir) / entries[wanted]


def require_free(push_dir: str | Path, version: int) -> None:
    """UserError where `version` is no positive int64 or is taken (by `7` as by `007`)."""
    if not 1 <= version <= _INT64_MAX:
        raise UserError(f"The version {version} is not allowed; give an integer from 1 on, or none to get the next.")
    taken = _entries(push_dir).get(version)
    if taken is not None:
        raise UserError(
            f"Version {version} exists already at {Path(push_dir) / taken} and is never overwritten; "
            f"give another (the next free one is {next_version(push_dir)}) or none."
        )


def stage(push_dir: str | Path) -> Path:
    """A new empty folder `.tmp-<pid>-<random>-<host>` in `push_dir`, which is made if needed.

    On the same filesystem, so that a rename is atomic, and with a name no server takes for a version. Stages
    left by killed processes of this host are removed first. UserError where the folder cannot be written.
    """
    push_dir = Path(push_dir)
    # The host: on a shared filesystem a process of another machine is alive though its pid means nothing here.
    staged = push_dir / f".tmp-{os.getpid()}-{secrets.token_hex(4)}-{socket.gethostname()}"
    try:
        push_dir.mkdir(parents=True, exist_ok=True)
        remove_stale_stages(push_dir)
        staged.mkdir()  # not mkdtemp: its mode 0700 would lock out the user of the server
    except OSError as error:
        raise UserError(
            f"The push folder {push_dir} cannot be written ({error.strerror}); make it writable or pass another."
        ) from error
    return staged


def publish(staged: Path, push_dir: str | Path, version: int | None = None) -> Path:
    """Bring `staged` to the disk and rename it to `push_dir/<version>` (default: the next free one).

    UserError where an asked-for version exists. Pushes at the same time get different versions.
    """
    _sync_tree(staged)
    while True:
        if version is not None:
            require_free(push_dir, version)
        chosen = next_version(push_dir) if version is None else version
        target = Path(push_dir) / str(chosen)
        try:
            os.rename(staged, target)
            break
        except OSError as error:
            # Another push won the race since the look: rename refuses to replace a folder with content.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
    _sync(Path(push_dir))
    return target


def publish_copy(folder: Path, push_dir: str | Path, version: int | None = None) -> Path:
    """Publishes a copy of `folder`, as `stage` and `publish` do; nothing stays where it fails."""
    staged = stage(push_dir)
    try:
        shutil.copytree(folder, staged, dirs_exist_ok=True)
        return publish(staged, push_dir, version)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def prune(push_dir: str | Path, keep: int) -> list[int]:
    """Deletes all but the `keep` highest versions, the oldest first; returns them.

    A version is renamed to a stage first, so that a server never finds half of one.
    """
    pruned = list_versions(push_dir)[:-keep]
    for version in pruned:
        gone = stage(push_dir)
        os.rename(version_path(push_dir, version), gone)
        shutil.rmtree(gone)
    return pruned


def remove_stale_stages(push_dir: Path) -> None:
    """Delete the stages whose process, on this host, is dead."""
    for child in push_dir.iterdir():
        match = _STAGE.fullmatch(child.name)
        if match and match[3] == socket.gethostname() and not _alive(int(match[1])):
            shutil.rmtree(child, ignore_errors=True)


def _entries(push_dir: str | Path) -> dict[int, str]:
    # Files count too: a server tries to load them, and a rename onto one fails. Leading zeros: 007 is version 7.
    try:
        names = sorted(os.listdir(push_dir))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {int(name): name for name in names if name.isascii() and name.isdigit() and int(name) <= _INT64_MAX}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder):
        for name in files:
            _sync(Path(parent) / name)
        _sync(Path(parent))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
