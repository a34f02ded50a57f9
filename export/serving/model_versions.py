"""The versions of one model: the newest that loads is served, and a newer one takes over between two requests."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import tensorflow as tf

from bitkeras.errors import first_line
from export.serving.candidates import Candidates
from export.serving.errors import RequestError, code_of, invalid, what_was_wrong
from export.serving.loaded_model import LoadedModel

LOG = logging.getLogger("bitkeras.serving")


@dataclasses.dataclass
class _Held:
    model: LoadedModel
    num_users: int = 0
    retired: bool = False


@dataclasses.dataclass(frozen=True)
class VersionState:
    """What GetModelStatus says: `state` as in TensorFlow Serving, the code of an error and its text."""

    state: str
    code: str = "OK"
    message: str = ""


class ModelVersions:
    """Follows a folder of versions.

    Attributes:
      name: what requests call the model.
      labels: {label: version}; these are served beside the newest.
    """

    def __init__(
        self,
        name: str,
        push_dir: str | Path,
        *,
        labels: Mapping[str, int] | None = None,
        load: Callable[[Path, int], LoadedModel] = LoadedModel,
    ):
        self.name, self.labels = name, dict(labels or {})
        self._candidates, self._load_model = Candidates(push_dir), load
        self._lock = threading.Lock()
        self._held: dict[int, _Held] = {}
        self._states: dict[int, VersionState] = {}

    def poll(self) -> None:
        """Look into the folder: load what is new, then let go of what it replaces.

        A version that does not load is told once, and what was served goes on. While the folder holds nothing that
        loads, what is in memory is kept.
        """
        present = self._candidates.look()
        while True:
            wanted = self._wanted()
            missing = sorted(wanted - self._held.keys(), reverse=True)
            if not missing:
                break
            self._load(missing[0])
        if wanted:
            self._serve_only(wanted)
        with self._lock:
            known = {*present, *self._held}
            self._states = {version: state for version, state in self._states.items() if version in known}

    def states(self, version: int | None = None, label: str | None = None) -> dict[int, VersionState]:
        """{version: state}, the newest first; RequestError NOT_FOUND where there is none."""
        version = self._labelled(label) if label else version
        with self._lock:
            states = {number: self._states[number] for number in sorted(self._states, reverse=True)}
        if version is None and not states:
            raise RequestError("NOT_FOUND", f"Could not find any versions of model {self.name}")
        if version is not None and version not in states:
            raise RequestError("NOT_FOUND", f"Could not find version {version} of model {self.name}")
        return states if version is None else {version: states[version]}

    @contextlib.contextmanager
    def acquired(self, version: int | None = None, label: str | None = None) -> Iterator[LoadedModel]:
        """Inside, the model stays loaded, though a newer one may have taken over; none and none: the newest."""
        version = self._labelled(label) if label else version
        with self._lock:
            current = [number for number, held in self._held.items() if not held.retired]
            chosen = max(current, default=None) if version is None else version
            if chosen not in current:
                asked = f"Latest({self.name})" if version is None else f"Specific({self.name}, {version})"
                raise RequestError("NOT_FOUND", f"Servable not found for request: {asked}")
            held = self._held[chosen]
            held.num_users += 1
        try:
            yield held.model
        finally:
            with self._lock:
                held.num_users -= 1
                unused = self._let_go(held)
            if unused:
                self._close(held)

    def available(self) -> list[int]:
        """The versions that answer."""
        with self._lock:
            return sorted(version for version, held in self._held.items() if not held.retired)

    def _labelled(self, label: str) -> int:
        if label not in self.labels:
            raise invalid(f"Unrecognized servable version label: {label}")
        return self.labels[label]

    def _wanted(self) -> set[int]:
        good = self._candidates.good
        return {*good[-1:], *(version for version in self.labels.values() if version in good)}

    def _load(self, version: int) -> None:
        self._set_state(version, VersionState("LOADING"))
        try:
            model = self._load_model(self._candidates.path(version), version)
        except Exception as error:  # noqa: BLE001 - a foreign file may fail in any way, and the server must go on
            code, told = error.code if isinstance(error, RequestError) else "UNKNOWN", first_line(error)
            if isinstance(error, tf.errors.OpError):
                code, told = code_of(error), what_was_wrong(error)
            LOG.error("model=%s version=%d does not load: %s", self.name, version, told)
            self._candidates.give_up(version)
            self._set_state(version, VersionState("END", code, told))
            return
        with self._lock:
            self._held[version] = _Held(model)
            self._states[version] = VersionState("AVAILABLE")
        LOG.info("model=%s version=%d is loaded and answers", self.name, version)

    def _serve_only(self, wanted: set[int]) -> None:
        unused = []
        with self._lock:
            for version, held in list(self._held.items()):
                # One that still had requests when it was replaced may be wanted again, after a newer was removed.
                if held.retired != (version not in wanted):
                    held.retired = version not in wanted
                    self._states[version] = VersionState("UNLOADING" if held.retired else "AVAILABLE")
                if self._let_go(held):
                    unused.append(held)
        for held in unused:
            self._close(held)

    def _let_go(self, held: _Held) -> bool:
        """Under the lock: True where it is to be closed, which only one caller is told."""
        if not held.retired or held.num_users:
            return False
        del self._held[held.model.version]
        self._states[held.model.version] = VersionState("END")
        return True

    def _close(self, held: _Held) -> None:
        held.model.close()
        LOG.info("model=%s version=%d is unloaded", self.name, held.model.version)

    def _set_state(self, version: int, state: VersionState) -> None:
        with self._lock:
            self._states[version] = state
