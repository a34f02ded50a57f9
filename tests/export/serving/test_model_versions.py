"""Which versions are served while a folder changes, with models that only know their number."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time

import pytest

from export.serving.errors import RequestError
from export.serving.model_versions import ModelVersions


class Model:
    def __init__(self, folder, version):
        if (folder / "broken").exists():
            raise ValueError(f"{folder.name} is broken")
        self.version, self.closed = version, False

    def close(self):
        assert not self.closed
        self.closed = True


@pytest.fixture
def add(tmp_path):
    def make(name, *, broken=False):
        (tmp_path / f".{name}").mkdir()
        if broken:
            (tmp_path / f".{name}" / "broken").touch()
        os.rename(tmp_path / f".{name}", tmp_path / name)

    return make


def states(versions):
    return {version: state.state for version, state in versions.states().items()}


def asked(versions, **which):
    with versions.acquired(**which) as model:
        return model.version


def test_the_newest_is_served_and_replaces_what_was(add, tmp_path):
    versions = ModelVersions("m", tmp_path, load=Model)
    versions.poll()
    with pytest.raises(RequestError, match=r"Servable not found for request: Latest\(m\)"):
        asked(versions)
    with pytest.raises(RequestError, match="Could not find any versions of model m"):
        versions.states()
    add("1")
    add("3")
    versions.poll()
    assert asked(versions) == 3 == asked(versions, version=3) and versions.available() == [3]
    with pytest.raises(RequestError, match=r"Servable not found for request: Specific\(m, 1\)"):
        asked(versions, version=1)
    with pytest.raises(RequestError, match="Could not find version 1 of model m"):
        versions.states(1)
    add("010")
    versions.poll()
    assert asked(versions) == 10 and states(versions) == {10: "AVAILABLE", 3: "END"}


def test_who_has_a_version_keeps_it_until_done(add, tmp_path):
    add("1")
    versions = ModelVersions("m", tmp_path, load=Model)
    versions.poll()
    with versions.acquired() as old:
        add("2")
        versions.poll()
        assert states(versions) == {2: "AVAILABLE", 1: "UNLOADING"}
        assert asked(versions) == 2 and not old.closed
        with pytest.raises(RequestError):
            asked(versions, version=1)
    assert old.closed and states(versions) == {2: "AVAILABLE", 1: "END"}


def test_a_version_that_does_not_load_is_told_once_and_the_old_goes_on(add, tmp_path, caplog):
    caplog.set_level(logging.INFO, "bitkeras.serving")
    add("1")
    versions = ModelVersions("m", tmp_path, load=Model)
    versions.poll()
    add("2", broken=True)
    for _ in range(5):
        versions.poll()
        assert asked(versions) == 1
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "model=m version=2 does not load: 2 is broken"
    ]
    assert versions.states(2)[2].message == "2 is broken" and states(versions) == {2: "END", 1: "AVAILABLE"}
    # Mended, it is loaded after all.
    (tmp_path / "2" / "broken").unlink()
    versions.poll()
    assert asked(versions) == 2


def test_a_version_that_is_removed_gives_way_to_the_one_below(add, tmp_path):
    add("1")
    add("2")
    versions = ModelVersions("m", tmp_path, load=Model)
    versions.poll()
    with versions.acquired() as second:
        shutil.rmtree(tmp_path / "2")
        versions.poll()
        assert asked(versions) == 1
        add("2")
        versions.poll()
        # It was in use all the time, so it is served again as it is.
        assert asked(versions) == 2 and not second.closed
    assert asked(versions) == 2 and not second.closed


def test_an_empty_folder_takes_nothing_away(add, tmp_path):
    add("1")
    versions = ModelVersions("m", tmp_path, load=Model)
    versions.poll()
    shutil.rmtree(tmp_path / "1")
    versions.poll()
    assert asked(versions) == 1


def test_labelled_versions_are_served_beside_the_newest(add, tmp_path):
    for name in ("1", "2", "3"):
        add(name)
    versions = ModelVersions("m", tmp_path, load=Model, labels={"stable": 1, "late": 9})
    versions.poll()
    assert versions.available() == [1, 3]
    assert asked(versions, label="stable") == 1 and asked(versions) == 3
    with pytest.raises(RequestError, match="Unrecognized servable version label: canary") as unknown:
        asked(versions, label="canary")
    assert unknown.value.code == "INVALID_ARGUMENT"
    with pytest.raises(RequestError, match=r"Specific\(m, 9\)"):
        asked(versions, label="late")


def test_requests_never_fail_and_never_get_a_closed_model_while_versions_come(add, tmp_path):
    add("1")
    versions = ModelVersions("m", tmp_path, load=Model)
    versions.poll()
    stop, faults, answered = threading.Event(), [], []

    def ask():
        last = 0
        while not stop.is_set():
            try:
                with versions.acquired() as model:
                    time.sleep(0.0001)
                    if model.closed or model.version < last:
                        faults.append(model.version)
                    last = model.version
                answered.append(last)
            except RequestError as error:
                faults.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for number in range(2, 60):
        add(str(number))
        versions.poll()
    stop.set()
    for thread in threads:
        thread.join(30)
    assert not faults and len(answered) > 30 and max(answered) > 30 and asked(versions) == 59
    assert states(versions)[59] == "AVAILABLE" and set(states(versions).values()) == {"AVAILABLE", "END"}
