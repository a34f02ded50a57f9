"""Ask a pushed SavedModel about images.

The images follow the flags: --push_dir=DIR IMAGE [IMAGE ...]. Only the SavedModel is used, as a server would. One
broken image refuses them all.
"""

from __future__ import annotations

import json

from bitkeras.errors import UserError
from export.predict import predict_files
from export.versions import version_path
from pipelines.command_flags import CommandFlags
from pipelines.runtime import say

TAKES_ARGUMENTS = True

FLAGS = CommandFlags()
FLAGS.text("push_dir", None, "A folder that `bitkeras push` published into.", required=True)
FLAGS.integer("version", None, "Which version; none: the latest.", at_least=1)
FLAGS.switch("json", False, "One JSON object a line, with the embedding.")


def main(images: list[str]) -> None:
    """Flags become plain arguments."""
    predict(images, push_dir=FLAGS.push_dir, version=FLAGS.version, as_json=FLAGS.json)


def predict(images: list[str], *, push_dir: str, version: int | None, as_json: bool) -> None:
    """Prints the classes of `images`, the likeliest first.

    Raises:
      UserError: no image, no such version, or a file that is no image.
    """
    if not images:
        raise UserError("No image was given; name one or more image files after the flags.")
    for answer in predict_files(version_path(push_dir, version), images):
        if as_json:
            say(json.dumps(answer))
            continue
        ranked = sorted(answer["probabilities"].items(), key=lambda item: -item[1])
        say(f"{answer['path']}: " + ", ".join(f"{name} {probability:.3f}" for name, probability in ranked))


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["predict", *sys.argv[1:]])
