"""Publish an older version again, as a new one, so that servers that take the highest take it.

Without `--to` it is the one before the live model. A live version that was itself published again counts as the one it
is a copy of, so that each call goes one model further back. The files are first held to the hashes they were pushed
with. No version is changed or deleted.
"""

from __future__ import annotations

from bitkeras.errors import UserError
from export.inspection import read_manifest, require_whole
from export.push import full_disk_told
from export.versions import list_versions, publish_copy, version_path
from pipelines.command_flags import CommandFlags
from pipelines.runtime import say

FLAGS = CommandFlags()
FLAGS.text("push_dir", None, "A folder that `bitkeras push` published into.", required=True)
FLAGS.integer("to", None, "The version to publish again; none: the one before the live model.", at_least=1)


def main(_) -> None:
    """Flags become plain arguments."""
    rollback(FLAGS.push_dir, to=FLAGS.to)


def rollback(push_dir: str, *, to: int | None) -> None:
    """Publishes a copy of version `to`.

    Raises:
      UserError: it is not there, is live already, or has changed.
    """
    present = list_versions(push_dir)
    if to is None:
        if len(present) < 2:
            held = f"only version {present[0]}" if present else "no version"
            raise UserError(f"{push_dir} holds {held}, so there is none before the live one.")
        first = _first_of_its_kind(push_dir, present)
        older = [version for version in present if version < first]
        if not older:
            raise UserError(
                f"The live version {present[-1]} of {push_dir} is version {first} again, and none is before that; name "
                f"one of {present[:-1]} with --to."
            )
        to = older[-1]
    folder = version_path(push_dir, to)
    if to == present[-1]:
        raise UserError(f"Version {to} is the live one of {push_dir}; name an older one of {present[:-1]}.")
    require_whole(folder)
    with full_disk_told(push_dir):
        published = publish_copy(folder, push_dir)
    say(f"version {to} is live again as {published}")


def _first_of_its_kind(push_dir: str, versions: list[int]) -> int:
    """The lowest of `versions` with the files of the highest."""
    files = {}
    for version in versions:
        try:
            files[version] = read_manifest(version_path(push_dir, version))["sha256"]
        except UserError:  # A folder that was not pushed is a copy of nothing.
            files[version] = None
    live = files[versions[-1]]
    return versions[-1] if live is None else next(version for version in versions if files[version] == live)


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["rollback", *sys.argv[1:]])
