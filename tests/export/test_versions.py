from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bitkeras.errors import UserError
from export import versions

ROOT = Path(__file__).resolve().parents[2]


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_an_empty_or_absent_folder_has_no_versions_and_starts_at_one(tmp_path):
    for push_dir in (tmp_path, tmp_path / "absent"):
        assert versions.list_versions(push_dir) == []
        assert versions.latest_version(push_dir) is None
        assert versions.next_version(push_dir) == 1


def test_only_names_that_a_server_takes_for_integers_count(tmp_path):
    for name in ("2", "010", "9", "-3", "1.5", "v4", "7a", ".tmp-5", "٣", str(2**63)):
        (tmp_path / name).mkdir()
    assert versions.list_versions(tmp_path) == [2, 9, 10]
    assert versions.latest_version(tmp_path) == 10
    assert versions.next_version(tmp_path) == 11
    assert versions.version_path(tmp_path) == versions.version_path(tmp_path, 10) == tmp_path / "010"


def test_an_absent_version_is_told_with_those_present(tmp_path):
    (tmp_path / "2").mkdir()
    with pytest.raises(UserError, match="no version 3; present: 2"):
        versions.version_path(tmp_path, 3)
    with pytest.raises(UserError, match="no version at all"):
        versions.version_path(tmp_path / "absent")


def test_publish_moves_the_files_with_readable_permissions(tmp_path):
    staged = versions.stage(tmp_path / "new" / "model")
    (staged / "variables").mkdir()
    (staged / "variables" / "data").write_text("weights")
    target = versions.publish(staged, tmp_path / "new" / "model")
    assert target == tmp_path / "new" / "model" / "1"
    assert (target / "variables" / "data").read_text() == "weights"
    assert os.listdir(target.parent) == ["1"]
    umask = os.umask(0)
    os.umask(umask)
    assert target.stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize("taken", ["7", "007"])
def test_an_existing_version_is_never_overwritten(tmp_path, taken):
    (tmp_path / taken).mkdir()
    (tmp_path / taken / "weights").write_text("old")
    staged = versions.stage(tmp_path)
    (staged / "weights").write_text("new")
    with pytest.raises(UserError, match="Version 7 exists already.*next free one is 8"):
        versions.publish(staged, tmp_path, 7)
    assert (tmp_path / taken / "weights").read_text() == "old"
    assert versions.publish(staged, tmp_path) == tmp_path / "8"


def test_a_version_taken_after_the_look_is_not_overwritten(tmp_path, monkeypatch):
    staged = versions.stage(tmp_path)
    (staged / "weights").write_text("new")
    rename = os.rename

    def rename_too_late(source, target):
        monkeypatch.setattr(os, "rename", rename)
        Path(target).mkdir()
        Path(target, "weights").write_text("of another push")
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_too_late)
    assert versions.publish(staged, tmp_path) == tmp_path / "2"
    assert (tmp_path / "1" / "weights").read_text() == "of another push"
    assert (tmp_path / "2" / "weights").read_text() == "new"


@pytest.mark.parametrize("version", [0, -1, 2**63])
def test_a_version_out_of_range_is_told(tmp_path, version):
    with pytest.raises(UserError, match="from 1 on"):
        versions.require_free(tmp_path, version)


def test_stages_of_dead_processes_of_this_host_are_removed_and_others_kept(tmp_path):
    host = socket.gethostname()
    stale = tmp_path / f".tmp-{dead_pid()}-0123abcd-{host}"
    kept = [f".tmp-{os.getpid()}-0123abcd-{host}", f".tmp-{dead_pid()}-0123abcd-elsewhere", ".tmp-mine", "notes"]
    for path in [stale, *(tmp_path / name for name in kept)]:
        path.mkdir()
        (path / "file").touch()
    staged = versions.stage(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, staged.name])


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").touch()
    for push_dir in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/bitkeras")):
        with pytest.raises(UserError, match="cannot be written"):
            versions.stage(push_dir)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_told(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(UserError, match="cannot be written"):
        versions.stage(tmp_path)


def test_processes_at_the_same_time_get_different_versions(tmp_path):
    code = (
        "import os, sys; from export import versions\n"
        "for _ in range(10):\n"
        "    staged = versions.stage(sys.argv[1]); (staged / 'owner').write_text(str(os.getpid()))\n"
        "    print(versions.publish(staged, sys.argv[1]).name)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    processes = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    owned = {process.pid: process.communicate()[0].split() for process in processes}
    assert sorted(int(version) for taken in owned.values() for version in taken) == list(range(1, 41))
    for pid, taken in owned.items():
        assert all((tmp_path / version / "owner").read_text() == str(pid) for version in taken)
    assert versions.list_versions(tmp_path) == list(range(1, 41))
    assert len(os.listdir(tmp_path)) == 40


PUBLISH_SCRIPT = (
    "import sys; from pathlib import Path; from export.versions import prune, publish_copy\n"
    "while True: publish_copy(Path(sys.argv[1]), sys.argv[2]); prune(sys.argv[2], 3)"
)


@pytest.mark.slow
def test_a_reader_never_sees_half_a_version_while_pushes_are_killed(tmp_path):
    model = tmp_path / "model"
    (model / "variables").mkdir(parents=True)
    for number in range(30):
        (model / "variables" / f"part{number}").write_bytes(bytes([number]) * 20_000)
    (model / "saved_model.pb").write_bytes(b"graph")
    whole = {path.relative_to(model).as_posix(): path.read_bytes() for path in model.rglob("*") if path.is_file()}
    push_dir, seen, pauses = tmp_path / "served", set(), np.random.default_rng(0)
    versions.publish_copy(model, push_dir)
    for _ in range(25):
        publisher = subprocess.Popen([sys.executable, "-c", PUBLISH_SCRIPT, str(model), str(push_dir)], cwd=ROOT)
        until = time.monotonic() + pauses.uniform(0.15, 0.6)
        while time.monotonic() < until:
            seen.add(read_whole(push_dir, whole))
        publisher.kill()
        publisher.wait()
        seen.add(read_whole(push_dir, whole))
    # Many were published and many killed in the midst, which a stage that is tidied up later shows.
    assert len(seen) > 20
    assert len(list(push_dir.glob(".tmp-*"))) <= 2
    versions.stage(push_dir)
    assert len(list(push_dir.glob(".tmp-*"))) == 1


def read_whole(push_dir, whole):
    """The live version, whose files are all there with all their bytes, unless it was pruned while it was read."""
    version = versions.latest_version(push_dir)
    folder, found = Path(push_dir) / str(version), {}
    try:
        for name in whole:
            found[name] = (folder / name).read_bytes()
    except FileNotFoundError:
        pass
    assert found == whole or version not in versions.list_versions(push_dir)
    return version
