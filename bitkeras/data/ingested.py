"""What `bitkeras ingest` told of the records it wrote, in the file `ingest.json` beside their folders."""

from __future__ import annotations

import collections
import json
from collections.abc import Sequence
from pathlib import Path

from bitkeras.errors import UserError

RECORD = "ingest.json"


def class_names(shards: Sequence[Path]) -> tuple[str, ...]:
    """The names of all classes in label order, also of those without a record; empty where they are not told."""
    told = [_told(folder.parent) for folder in _folders(shards)]
    names = [tuple(one.get("class_names", ())) for one in told]
    # Of several archives each may have others.
    return names[0] if len(set(names)) == 1 else ()


def require_all(shards: Sequence[Path], which: Sequence[int]) -> None:
    """Compares what was read with what was written, since a plain shard cut between two records looks whole.

    Args:
      shards: all that were read.
      which: of each record, the number of its shard.

    Raises:
      UserError: a folder of shards holds more or fewer records.
    """
    found = collections.Counter(shards[number].parent for number in which)
    for folder in _folders(shards):
        told = _told(folder.parent).get("splits", {}).get(folder.name)
        if told and told["num_images"] != found[folder]:
            raise UserError(
                f"The shards in {folder} hold {found[folder]} records, and {folder.parent / RECORD} tells of "
                f"{told['num_images']}; copy or write them again."
            )


def _folders(shards: Sequence[Path]) -> list[Path]:
    return list(dict.fromkeys(shard.parent for shard in shards))


def _told(folder: Path) -> dict:
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"The file {path} cannot be read ({error}); restore or remove it.") from None
