"""Workers that tests hand to Beam: in a module of their own, since other processes import them by name."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

from bitkeras.errors import UserError


class Noting:
    """Writes a file TASK in a folder, with the process and the worker that did it; raises for some tasks."""

    RAISES = {"user": UserError("The shard x cannot be written."), "disk": OSError(28, "No space left on device", "x")}

    def __init__(self, folder: str, seconds: float = 0.0):
        self.folder, self.seconds, self.name = Path(folder), seconds, secrets.token_hex(4)

    def __call__(self, task: str) -> None:
        if task in self.RAISES:
            raise self.RAISES[task]
        if task == "defect":
            raise KeyError("a defect")
        time.sleep(self.seconds)
        (self.folder / task).write_text(f"{os.getpid()} {self.name}")
