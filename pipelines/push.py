"""Publish a run as a SavedModel, if it passes the gate.

As TFX's Trainer, Evaluator, InfraValidator and Pusher do, and in their layouts below RUN_DIR/tfx: the model is exported
and compared with Keras in a fresh process; the exported model is scored on the test part and held to --floors, to the
version that is live, and to the limits of latency and size; a server is started on it and asked; and only then a
copy is renamed to PUSH_DIR/<integer>. A model that is refused leaves the live one as it is, and the exit code is 3.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from bitkeras.data import ImageSource
from bitkeras.errors import UserError
from bitkeras.evaluation.novelty import Familiar
from bitkeras.runs import RunFolder
from export.artifacts import Execution
from export.folding import PRECISIONS
from export.gate import parse_floors
from export.servable import Servable
from export.versions import require_free, version_path
from pipelines.checksums import sha256_of
from pipelines.command_flags import CommandFlags
from pipelines.converting import parse_formats
from pipelines.gate import Candidate, Gate, evaluate
from pipelines.images import read_image
from pipelines.probe import find_probed_split, probed_encoder_path, read_probed, require_finished
from pipelines.publishing import Destination, Judged, already_pushed, own_versions, publish
from pipelines.push_encoder import push_encoder
from pipelines.runtime import say

FLAGS = CommandFlags()
FLAGS.text("run_dir", None, "A run that `bitkeras probe` has scored, or a finished one.", required=True)
FLAGS.text("name", "probe", "Which probe of the run gives the classifier.")
FLAGS.switch("encoder_only", False, "Publish the encoder without classifier: of a run that needs no probe, nor labels.")
FLAGS.text("push_dir", None, "The folder a server watches; the version appears in it.", required=True)
FLAGS.integer("version", None, "An integer that is free; none: the highest + 1.", at_least=1)
FLAGS.text("data_dir", None, "Where the images are now; none: where pre-training found them.")
FLAGS.integer("check_images", 16, "Real images the SavedModel must answer as Keras does.", at_least=1)
FLAGS.text("floors", "", "Test scores it must reach, such as balanced_accuracy=0.4,mel.sensitivity=0.3.")
FLAGS.switch("allow_loss", False, "Publish it even where the live version is resolved to be better on this test part.")
FLAGS.number("max_latency_ms", None, "Of one image on this machine, median; none: any.")
FLAGS.number("max_mb", None, "Of all files of the SavedModel; none: any.")
FLAGS.switch("infra_validate", True, "Start a server on the model and ask it before it is published.")
FLAGS.integer("keep", None, "Delete all but so many versions afterwards, the oldest first; none: none.", at_least=1)
FLAGS.text("pipeline_root", None, "Where the TFX-style artifacts go; none: RUN_DIR/tfx.")
FLAGS.switch(
    "freeze",
    False,
    "Constants in place of variables, and batch norm folded into the convolutions before it: faster for single images. "
    "hub.KerasLayer cannot fine-tune such a model, and an encoder of more than 1.9 GB is refused (protobuf's limit).",
)
FLAGS.choice(
    "serve_precision",
    "float32",
    PRECISIONS,
    "What the encoder computes in; answers are float32. bfloat16 is faster on processors that have it (AVX512-BF16, "
    "AMX) and slower on others; what it costs in scores is in the gate, which asks the exported model.",
)
FLAGS.text("also", "", "Formats to convert to beside it, of onnx,openvino,tflite: in PIPELINE_ROOT/Converter.")

_GATE = ("floors", "allow_loss", "max_latency_ms", "max_mb")


def main(_) -> None:
    """Flags become plain arguments."""
    options = FLAGS.values(without=["run_dir", "name", "encoder_only", *_GATE])
    run, gate = RunFolder(FLAGS.run_dir), Gate(**FLAGS.values(only=_GATE))
    if FLAGS.encoder_only:
        push_encoder(run, gate=gate, **options)
    else:
        push_run(run, FLAGS.name, gate=gate, **options)


def push_run(
    run: RunFolder,
    name: str,
    *,
    gate: Gate,
    push_dir: str,
    version: int | None,
    data_dir: str | None,
    check_images: int,
    infra_validate: bool,
    keep: int | None,
    pipeline_root: str | None,
    freeze: bool,
    serve_precision: str,
    also: str,
) -> None:
    """Publishes encoder and probe of a run, if they pass `gate`.

    Raises:
      UserError: the run is not finished or not probed, or the folder cannot be used.
      Refused: a line of the gate was not met.
    """
    config, probe_path = run.config(), run.path / name / "probe.npz"
    formats = parse_formats(also, serve_precision)
    require_finished(run)
    if not (run.path / name / "report.md").exists():
        raise UserError(
            f"The run {run.path} has no finished probe {name!r}; run `bitkeras probe --run_dir={run.path} "
            f"--name={name}` first, or pass --encoder_only."
        )
    encoder_path = probed_encoder_path(run, name)
    contents = {path.name: sha256_of(path) for path in (encoder_path, probe_path)}
    form = {"is_frozen": freeze, "serve_precision": serve_precision}
    if already_pushed(push_dir, version, contents, form):
        say(f"{version_path(push_dir, version)} already holds this encoder and probe; nothing to do.")
        return
    if version is not None:
        require_free(push_dir, version)
    results = RunFolder(run.path / name)
    options = results.config()
    source, _ = read_probed(run, results, options, data_dir or options["data_dir"])
    source, split = find_probed_split(run, results, source, options)
    test = split.indices("test")
    if options.get("resplit"):
        say(f"warning: the probe {name} is tested in other parts than pre-training had, so its scores may flatter")
    # Before the minutes of an export.
    parse_floors(gate.floors, source.class_names)
    servable = build_servable(encoder_path, probe_path, freeze=freeze, precision=serve_precision)
    execution = Execution(pipeline_root or run.path / "tfx")

    def judge() -> Judged:
        candidate = Candidate(execution.model, source, test)
        verdicts = evaluate(candidate, gate, push_dir)
        execution.write_json(execution.evaluation / "card.json", candidate.card)
        manifest = {
            **{"config": config, "probe": options, "data": data_facts(source, test, results, run)},
            **{"scores": json.loads((results.path / "scores.json").read_text())[0]},
            **{"metrics": candidate.card["overall"], "made_from_sha256": contents, "versions": own_versions()},
        }
        return Judged(verdicts, manifest, candidate.card)

    images = [read_image(source, index) for index in test[:check_images]]
    destination = Destination(push_dir, version, keep, infra_validate, formats)
    publish(execution, servable, images, judge, destination)


def build_servable(
    encoder_path: Path, probe_path: Path, *, freeze: bool = False, precision: str = "float32"
) -> Servable:
    """What is exported, from the files of a probe; `freeze` and `precision` are those of `Servable`.

    Raises:
      UserError: the probe is of a version of bitkeras that kept less of it.
    """
    with np.load(probe_path) as probe:
        if "references" not in probe:
            raise UserError(
                f"The probe {probe_path.parent} is of an earlier version and lacks what the out-of-distribution score "
                "is made of; run `bitkeras probe` under another --name and push that."
            )
        return Servable(
            tf.keras.models.load_model(encoder_path),
            probe["kernel"],
            probe["bias"],
            familiar=Familiar(probe["references"], probe["distances"]),
            class_names=[str(name) for name in probe["class_names"]],
            image_size=int(probe["image_size"]),
            freeze=freeze,
            precision=precision,
        )


def data_facts(source: ImageSource, test: np.ndarray, results: RunFolder, run: RunFolder) -> dict:
    """What the model was scored on, with checksums that change with any image or part."""
    digest = hashlib.sha256()
    for index in test:
        digest.update(str(source.image_ids[index]).encode())
        digest.update(hashlib.sha256(read_image(source, index)).digest())
    split_path = results.split_path if results.split_path.exists() else run.split_path
    checksums = {"test_images_sha256": digest.hexdigest(), "split_sha256": sha256_of(split_path)}
    return {"name": source.name, "num_test_images": len(test), **checksums}


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["push", *sys.argv[1:]])
