"""`bitkeras push --encoder_only`: the encoder of a run as a SavedModel, of a run without labels too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf

# With --norm=group an encoder has layers that Keras only knows once this has been imported.
import bitkeras.backbones  # noqa: F401
from bitkeras.data import ImageSource
from bitkeras.data.batches import image_batches
from bitkeras.data.split_files import load_split
from bitkeras.errors import UserError
from bitkeras.evaluation.features import encode
from bitkeras.evaluation.novelty import MAX_REFERENCES, Familiar, fit_familiar
from bitkeras.runs import RunFolder
from export.artifacts import Execution
from export.evaluate import ExportedModel
from export.servable import Servable
from export.versions import require_free, version_path
from pipelines.checksums import sha256_of
from pipelines.converting import parse_formats
from pipelines.gate import Gate, judge_limits
from pipelines.images import read_image, usable_images
from pipelines.probe import require_finished
from pipelines.publishing import Destination, Judged, already_pushed, own_versions, publish
from pipelines.runtime import read_existing, say

_BATCH_SIZE = 64


def push_encoder(
    run: RunFolder,
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
    """Publishes the encoder of a run, if it is within the limits of `gate`.

    Raises:
      UserError: the run is not finished, scores are asked for, or the folder cannot be used.
      Refused: it is too slow or too large.
    """
    if gate.floors:
        raise UserError(
            f"--floors={gate.floors} are scores of a classifier, and --encoder_only has none; leave it out."
        )
    config, formats = run.config(), parse_formats(also, serve_precision)
    require_finished(run)
    contents = {run.encoder_path.name: sha256_of(run.encoder_path)}
    form = {"is_frozen": freeze, "serve_precision": serve_precision}
    if already_pushed(push_dir, version, contents, form):
        say(f"{version_path(push_dir, version)} already holds this encoder; nothing to do.")
        return
    if version is not None:
        require_free(push_dir, version)
    source, _ = usable_images(run, read_existing(config, data_dir), on_bad_image="error")
    pretrain = load_split(run.split_path, source).indices("pretrain")
    encoder = tf.keras.models.load_model(run.encoder_path)
    servable = Servable(
        encoder,
        familiar=familiar_of(encoder, source, pretrain, config),
        image_size=config["image_size"],
        freeze=freeze,
        precision=serve_precision,
    )
    execution = Execution(pipeline_root or run.path / "tfx")
    images = [read_image(source, index) for index in pretrain[:check_images]]

    def judge() -> Judged:
        verdicts = judge_limits(ExportedModel(execution.model, images[0]), images[0], gate)
        data = {"name": source.name, "num_images": len(pretrain), "split_sha256": sha256_of(Path(run.split_path))}
        manifest = {"config": config, "data": data, "made_from_sha256": contents, "versions": own_versions()}
        return Judged(verdicts, manifest)

    publish(execution, servable, images, judge, Destination(push_dir, version, keep, infra_validate, formats))


def familiar_of(encoder: tf.keras.Model, source: ImageSource, pretrain: np.ndarray, config: dict) -> Familiar:
    """What pre-training images look like: half of a sample are the known ones, and how far the others are from them.

    Raises:
      UserError: there are fewer than two.
    """
    if len(pretrain) < 2:
        raise UserError(
            f"The run was pre-trained on {len(pretrain)} images; what is unusual takes two or more to tell."
        )
    chosen = np.random.default_rng(config["seed"]).permutation(pretrain)[: 2 * MAX_REFERENCES]
    batches = image_batches(source, chosen, image_size=config["image_size"], batch_size=_BATCH_SIZE)
    features = encode(encoder, batches)
    half = (len(chosen) + 1) // 2
    return fit_familiar(features[:half], features[half:], seed=config["seed"])
