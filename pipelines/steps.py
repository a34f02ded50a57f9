"""Steps whose results are kept: what is finished and whole is not made again, by this process or by another one."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

import bitkeras
from bitkeras.errors import UserError
from bitkeras.files import written_atomically
from pipelines.checksums import sha256_of
from pipelines.provenance import provenance

# Of keys and records; a step of another format is made again.
FORMAT = 1
RECORD = "step.json"
# Flags that came when steps had been kept already -> the value that makes a step what it was before. It is left out of
# keys, so that these steps are found.
AS_BEFORE = {"head_norm": "batch"}
DONE, PARTLY_DONE, TO_DO = "done", "partly done", "to do"


@dataclasses.dataclass(frozen=True)
class Step:
    """One result of a study.

    Attributes:
      name: for people, unique in a plan.
      key: what the result depends on, as `step_key` gives it.
      folder: where its outputs lie.
      outputs: files in `folder` that there must be.
      make: makes them, or goes on where it was killed; called with the folder as that left it.
      inputs: steps that must be done before.
      optional: files in `folder` that belong to the result where there are any.
      line: the shell line that makes it, where there is one.
      kind, work: steps of one kind take a time in proportion to their work, in passes of an image through a network.
      facts: what else `plan.json` and `step.json` say of it, such as its flags.
    """

    name: str
    key: str
    folder: Path
    outputs: tuple[str, ...]
    make: Callable[[], None]
    inputs: tuple[Step, ...] = ()
    optional: tuple[str, ...] = ()
    line: str | None = None
    kind: str = ""
    work: float = 1.0
    facts: dict = dataclasses.field(default_factory=dict)

    @property
    def owns_folder(self) -> bool:
        """Whether nothing else lies in the folder, so that it may be cleared."""
        return self.folder.name.endswith(self.key[:8])


def step_key(command: str, *, flags: dict, inputs: tuple[Step, ...] = (), data: str = "") -> str:
    """The sha256 of all that a step's result depends on.

    Args:
      command: what makes it.
      flags: name -> value, defaults too; one that is off counts as one that does not exist, as in a run's folder, and
        so does one of `AS_BEFORE`.
      inputs: the steps before it.
      data: fingerprint of the images.
    """
    given = {name: value for name, value in flags.items() if value is not None and value is not False}
    given = {name: value for name, value in given.items() if name not in AS_BEFORE or value != AS_BEFORE[name]}
    parts = {
        "format": FORMAT,
        # Another version may compute something else under the same flags.
        "versions": [bitkeras.__version__, tf.__version__],
        "command": command,
        "flags": given,
        "inputs": [step.key for step in inputs],
        "data": data,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def finished_record(step: Step) -> dict | None:
    """What `step.json` says, where the step is done: its outputs are those recorded, and so are those of its inputs."""
    record = recorded(step.folder)
    if record is None or (record["format"], record["key"]) != (FORMAT, step.key):
        return None
    if not set(step.outputs) <= set(record["outputs"]):
        return None
    if any(sha256_of(step.folder / name) != known for name, known in record["outputs"].items()):
        return None
    inputs = {one.key: finished_record(one) for one in step.inputs}
    known = {key: found and found["outputs"] for key, found in inputs.items()}
    return record if record["inputs"] == known else None


def recorded(folder: Path) -> dict | None:
    """The record in a folder, or None where there is none that can be read."""
    try:
        return json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return None


def state(step: Step) -> str:
    """`DONE`, `PARTLY_DONE` or `TO_DO`."""
    if finished_record(step) is not None:
        return DONE
    if not step.owns_folder or recorded(step.folder) is not None:
        return TO_DO
    return PARTLY_DONE if step.folder.is_dir() and any(step.folder.iterdir()) else TO_DO


def make(step: Step) -> None:
    """Makes a step that is not done, and writes its record last.

    Raises:
      UserError: an output is missing at the end; and what `step.make` raises.
    """
    if (step.folder / RECORD).exists():
        clear(step)
    is_resumed = state(step) == PARTLY_DONE
    if is_resumed:
        # What a kill left of a file that was being written: alone in a folder, it would be none of a run's.
        for path in step.folder.glob(".*"):
            path.unlink()
    started = time.perf_counter()
    step.make()
    missing = [name for name in step.outputs if not (step.folder / name).is_file()]
    if missing:
        raise UserError(f"The step {step.name} left no {', '.join(missing)} in {step.folder}; delete that folder.")
    held = [name for name in (*step.outputs, *step.optional) if (step.folder / name).is_file()]
    record = {
        **{"format": FORMAT, "name": step.name, "key": step.key, "line": step.line, **step.facts},
        "inputs": {one.key: recorded(one.folder)["outputs"] for one in step.inputs},
        "outputs": {name: sha256_of(step.folder / name) for name in held},
        **{"kind": step.kind, "work": step.work, "seconds": round(time.perf_counter() - started, 2)},
        # The seconds are then of the last part only.
        "resumed": is_resumed,
        "finished": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        **provenance(),
    }
    with written_atomically(step.folder / RECORD) as beside:
        beside.write_text(json.dumps(record, indent=2) + "\n")


def clear(step: Step) -> None:
    """Takes away a result that was finished and has been damaged since, or is of other inputs."""
    if not step.owns_folder:
        (step.folder / RECORD).unlink()
        return
    # Killed half-way, what is left must not be taken for a step to go on with.
    aside = step.folder.with_name(f".{step.folder.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    step.folder.rename(aside)
    shutil.rmtree(aside)
