"""The versions of a folder that are worth loading."""

from __future__ import annotations

from pathlib import Path

from bitkeras.errors import UserError
from export.versions import list_versions, version_path


class Candidates:
    """Those that are there but for those that were given up, until their files change.

    Attributes:
      good: numbers in ascending order, as of the last look.
    """

    def __init__(self, push_dir: str | Path):
        self._push_dir = Path(push_dir)
        self._stamps: dict[int, tuple] = {}
        self._given_up: dict[int, tuple] = {}
        self.good: list[int] = []

    def look(self) -> list[int]:
        """Read the folder again; all numbers in it."""
        present = list_versions(self._push_dir)
        # Taken before anything is loaded: files that come while it loads make it worth another try.
        self._stamps = {version: self._stamp(version) for version in present}
        self.good = [version for version in present if self._given_up.get(version) != self._stamps[version]]
        self._given_up = {version: stamp for version, stamp in self._given_up.items() if version in self._stamps}
        return present

    def give_up(self, version: int) -> None:
        """It does not load: not good any more, as long as it looks as it did at the last look."""
        self._given_up[version] = self._stamps[version]
        self.good.remove(version)

    def path(self, version: int) -> Path:
        """Its folder, which may be written with leading zeros."""
        return version_path(self._push_dir, version)

    def _stamp(self, version: int) -> tuple:
        try:
            folder = self.path(version)
            parts = (folder, folder / "saved_model.pb", folder / "variables", folder / "assets.extra")
            return tuple(part.stat().st_mtime_ns for part in parts if part.exists())
        except (OSError, UserError):
            return ()
