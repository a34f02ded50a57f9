"""Publish the model that comes along, to try predict, serve and inspect before there is one of your own.

It is the best encoder of docs/results/study.md with its probe: dermatoscopic images to the seven classes of HAM10000.
Its model card says how good it is, which is not good enough for anybody's skin.
"""

from __future__ import annotations

from pathlib import Path

import export
from export.inspection import read_manifest, require_whole
from export.push import MODEL_CARD, full_disk_told
from export.versions import list_versions, publish_copy, version_path
from pipelines.command_flags import CommandFlags
from pipelines.runtime import say

DEMO = Path(export.__file__).parent / "demo"

FLAGS = CommandFlags()
FLAGS.text("push_dir", None, "The folder that gets it, as its next version.", required=True)


def main(_) -> None:
    """Flags become plain arguments."""
    publish_demo(FLAGS.push_dir)


def publish_demo(push_dir: str) -> None:
    """Publishes a copy of the packaged model, unless it is the live version of `push_dir` already.

    Raises:
      UserError: the package is damaged, or the folder cannot be written.
    """
    manifest = require_whole(DEMO)
    there = list_versions(push_dir)
    if there and read_manifest(version_path(push_dir)) == manifest:
        say(f"{version_path(push_dir)} is the demo model already; nothing is left to do")
        return
    with full_disk_told(push_dir):
        published = publish_copy(DEMO, push_dir)
    score = manifest["metrics"]["balanced_accuracy"]["value"]
    say(f"published {published}, for research only: it is no medical device, and its balanced accuracy is {score:.2f}")
    say(f"its limits are in {published / MODEL_CARD}")
    say(f"ask it: bitkeras predict --push_dir={push_dir} IMAGE")


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["demo", *sys.argv[1:]])
