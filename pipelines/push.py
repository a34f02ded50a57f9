"""Publish a run as a SavedModel.

It takes encoded image bytes and returns class names, probabilities and the embedding. It is written beside, loaded
again in a fresh process, compared with Keras on real images of the test part, and then renamed to PUSH_DIR/<integer>.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import tensorflow as tf

from bitkeras.errors import UserError
from bitkeras.evaluation.novelty import Familiar
from bitkeras.runs import RunFolder
from export.push import MANIFEST, push
from export.servable import Servable
from export.versions import latest_version, list_versions, version_path
from pipelines.command_flags import CommandFlags
from pipelines.images import read_image
from pipelines.probe import find_probed_split, probed_encoder_path, read_probed, require_finished
from pipelines.runtime import say

FLAGS = CommandFlags()
FLAGS.text("run_dir", None, "A run that `bitkeras probe` has scored.", required=True)
FLAGS.text("name", "probe", "Which probe of the run gives the classifier.")
FLAGS.text("push_dir", None, "The folder a server watches; the version appears in it.", required=True)
FLAGS.integer("version", None, "An integer that is free; none: the highest + 1.", at_least=1)
FLAGS.text("data_dir", None, "Where the images are now; none: where pre-training found them.")
FLAGS.integer("check_images", 16, "Real images the SavedModel must answer as Keras does.", at_least=1)


def main(_) -> None:
    """Flags become plain arguments."""
    options = FLAGS.values(without=["run_dir", "name"])
    push_run(RunFolder(FLAGS.run_dir), FLAGS.name, **options)


def push_run(
    run: RunFolder, name: str, *, push_dir: str, version: int | None, data_dir: str | None, check_images: int
) -> None:
    """Publishes encoder and probe of a run.

    Raises:
      UserError: the run is not finished or not probed, or the folder cannot be used.
    """
    config = run.config()
    require_finished(run)
    probe_path = run.path / name / "probe.npz"
    if not (run.path / name / "report.md").exists():
        raise UserError(
            f"The run {run.path} has no finished probe {name!r}; run `bitkeras probe --run_dir={run.path} "
            f"--name={name}` first."
        )
    encoder_path = probed_encoder_path(run, name)
    contents = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (encoder_path, probe_path)}
    if already_pushed(push_dir, version, contents):
        say(f"{version_path(push_dir, version)} already holds this encoder and probe; nothing to do.")
        return
    options = RunFolder(run.path / name).config()
    source, _ = read_probed(run, RunFolder(run.path / name), options, data_dir or options["data_dir"])
    source, split = find_probed_split(run, RunFolder(run.path / name), source, options)
    test = split.indices("test")[:check_images]
    with np.load(probe_path) as probe:
        if "references" not in probe:
            raise UserError(
                f"The probe {probe_path.parent} is of an earlier version and lacks what the out-of-distribution score "
                "is made of; run `bitkeras probe` under another --name and push that."
            )
        servable = Servable(
            tf.keras.models.load_model(encoder_path),
            probe["kernel"],
            probe["bias"],
            familiar=Familiar(probe["references"], probe["distances"]),
            class_names=[str(name) for name in probe["class_names"]],
            image_size=int(probe["image_size"]),
        )
    say(f"writing the SavedModel and comparing it with Keras on {len(test)} images in a fresh process")
    scores = json.loads((run.path / name / "scores.json").read_text())
    manifest = {"config": config, "scores": scores[0], "made_from_sha256": contents}
    images = [read_image(source, index) for index in test]
    published = push(servable, push_dir=push_dir, images=images, version=version, manifest=manifest)
    say(f"pushed {published}; ask it: bitkeras predict --push_dir={push_dir} IMAGE")


def already_pushed(push_dir: str, version: int | None, contents: dict[str, str]) -> bool:
    """True when `version`, or the latest for None, is there and was made from files of these sha256."""
    if (latest_version(push_dir) if version is None else version) not in list_versions(push_dir):
        return False
    manifest = version_path(push_dir, version) / MANIFEST
    return manifest.is_file() and json.loads(manifest.read_text()).get("made_from_sha256") == contents


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["push", *sys.argv[1:]])
