"""List the versions of a pushed model, with the test scores of each exported model; the last is live."""

from __future__ import annotations

from pathlib import Path

from bitkeras.errors import UserError
from export.inspection import read_manifest
from export.versions import latest_version, list_versions, version_path
from pipelines.command_flags import CommandFlags
from pipelines.runtime import say

FLAGS = CommandFlags()
FLAGS.text("push_dir", None, "A folder that `bitkeras push` published into.", required=True)


def main(_) -> None:
    """Flags become plain arguments."""
    tell_versions(FLAGS.push_dir)


def tell_versions(push_dir: str) -> None:
    """A line each.

    Raises:
      UserError: there is none.
    """
    version_path(push_dir)
    for version in list_versions(push_dir):
        live = "  live" if version == latest_version(push_dir) else ""
        say(f"{version:>6}  {line(version_path(push_dir, version))}{live}")


def line(folder: Path) -> str:
    """What one version is."""
    try:
        manifest = read_manifest(folder)
    except UserError:
        return "pushed by something else: it has no manifest of bitkeras"
    if "metrics" not in manifest:
        return f"no scores, {len(manifest['class_names'])} classes" if manifest["class_names"] else "an encoder alone"
    scores = ", ".join(
        f"{metric.replace('_', ' ')} {score['value']:.3f}"
        for metric, score in manifest["metrics"].items()
        if score["value"] is not None
    )
    config = manifest["config"]
    start = f"{config['method']} from {config['weights']}, {config['epochs']} epochs"
    return f"{scores}; {start}; {manifest['data']['num_test_images']} test images of {manifest['data']['name']}"


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["versions", *sys.argv[1:]])
