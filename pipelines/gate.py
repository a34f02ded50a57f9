"""Whether an exported model may be published: its test scores, the live version, latency, size, and a server."""

from __future__ import annotations

import dataclasses
import functools
import json
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from bitkeras.data import ImageSource
from bitkeras.errors import UserError
from bitkeras.evaluation.answers import Answers
from bitkeras.evaluation.card import clinical_card
from bitkeras.evaluation.comparison import paired_differences
from export.decoding import READABLE
from export.evaluate import ExportedModel, size_mb
from export.gate import Verdict, judge_difference, judge_floors, judge_limit, parse_floors
from export.push import MANIFEST
from export.serving.errors import RequestError
from export.serving.remote import connect
from export.versions import latest_version, version_path
from pipelines.images import read_image
from pipelines.runtime import say

_COMPARED = "balanced_accuracy"


@dataclasses.dataclass(frozen=True)
class Gate:
    """The flags of the gate: `bitkeras push --help` explains them."""

    floors: str = ""
    allow_loss: bool = False
    max_latency_ms: float | None = None
    max_mb: float | None = None

    def __post_init__(self):
        # Export and scoring take minutes; only whether the classes are there has to wait for them.
        parse_floors(self.floors)


class Candidate:
    """An exported model and what it answers on the test part.

    Args:
      folder: of the SavedModel.
      source: the images.
      test: int [N], indices of the test part.
    """

    def __init__(self, folder: Path, source: ImageSource, test: np.ndarray):
        self.source, self.test = source, test
        self.model = ExportedModel(folder, self.image)
        self.answers = self.answers_of(self.model)
        facts = {name: values[test] for name, values in source.facts.items()}
        self.card = clinical_card(self.answers, facts=facts)

    @property
    def image(self) -> bytes:
        """The first test image."""
        return read_image(self.source, self.test[0])

    def answers_of(self, model: ExportedModel) -> Answers:
        """What a model answers on the test part."""
        bar = tqdm(total=len(self.test), desc="test images", disable=None, leave=False)
        with bar:
            probabilities = model.probabilities(
                functools.partial(read_image, self.source),
                self.test,
                progress=lambda done, _: bar.update(done - bar.n),
            )
        source, test = self.source, self.test
        groups = None if source.groups is None else source.groups[test]
        names = tuple(source.class_names)
        if names != model.class_names:
            raise UserError(
                f"{model.folder} knows the classes {', '.join(model.class_names)}, and the test part has "
                f"{', '.join(names)}."
            )
        return Answers(source.image_ids[test], source.labels[test], names, probabilities[np.newaxis], groups=groups)


def evaluate(candidate: Candidate, gate: Gate, push_dir: str) -> list[Verdict]:
    """The lines of the gate but the server's, each with its number."""
    score = candidate.card["overall"][_COMPARED]
    found = "{:.3f} [{:.3f}, {:.3f}]".format(score["value"], *score["interval"])
    say(f"the exported model on {len(candidate.test)} test images: {_COMPARED} {found}")
    verdicts = judge_floors(candidate.card, parse_floors(gate.floors, candidate.card["class_names"]))
    live = latest_version(push_dir)
    if live is not None and not gate.allow_loss:
        verdicts.append(_against_live(candidate, version_path(push_dir), live))
    return verdicts + judge_limits(candidate.model, candidate.image, gate)


def judge_limits(model: ExportedModel, image: bytes, gate: Gate) -> list[Verdict]:
    """The lines on latency and size; an encoder alone is held to no others."""
    verdicts = []
    if gate.max_latency_ms is not None:
        latency = model.latency_ms(image)
        verdicts.append(judge_limit("latency of one image", latency, "ms", gate.max_latency_ms))
    if gate.max_mb is not None:
        verdicts.append(judge_limit("size", size_mb(model.folder), "MB", gate.max_mb))
    return verdicts


def _against_live(candidate: Candidate, folder: Path, version: int) -> Verdict:
    try:
        live = candidate.answers_of(ExportedModel(folder, candidate.image))
    except (UserError, OSError, KeyError) as error:
        return Verdict(
            f"the live version {version} cannot be compared with ({error}); --allow_loss goes without", False
        )
    _tell_other_split(candidate, folder, version)
    answers = {"new": candidate.answers, "live": live}
    (row,) = paired_differences(answers, [("new", "live")], metrics=[_COMPARED])
    return judge_difference(row, version)


def _tell_other_split(candidate: Candidate, folder: Path, version: int) -> None:
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return
    known = json.loads(manifest.read_text(encoding="utf-8")).get("data", {})
    if known.get("num_test_images") not in (None, len(candidate.test)):
        say(f"the live version {version} had another test part and may have been trained on images of this one")


def infra_verdict(folder: Path, images: list[bytes]) -> Verdict:
    """A server is started on the model and asked about `images`, by REST and by gRPC."""
    from export.serving.server import Server

    with tempfile.TemporaryDirectory(prefix="bitkeras-infra-") as scratch:
        (Path(scratch) / "1").symlink_to(folder.absolute())
        try:
            server = Server({"candidate": Path(scratch)})
        except UserError as error:
            return Verdict(f"a server does not take the model: {error}", False)
        try:
            for address in (f"localhost:{server.rest_port}", f"grpc://localhost:{server.grpc_port}"):
                with connect(address, model_name="candidate") as ask:
                    statuses = ask(images)["status"].tolist()
                if statuses != [READABLE] * len(images):
                    return Verdict(f"the server {address} answers {len(images)} test images with {statuses}", False)
        except (UserError, RequestError) as error:
            return Verdict(f"the server does not answer: {error}", False)
        finally:
            server.stop()
    return Verdict(f"a server answers {len(images)} test images by REST and by gRPC", True)
