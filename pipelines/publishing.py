"""From a servable to a version: export, verdicts, blessings, and the copy that a server sees."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

import bitkeras
from bitkeras.errors import Refused
from export.artifacts import Execution
from export.gate import Verdict
from export.model_card import model_card
from export.push import MANIFEST, export_model, full_disk_told, seal
from export.servable import Servable
from export.validation import tolerance_of
from export.versions import latest_version, list_versions, prune, publish_copy, version_path
from pipelines.converting import convert_all
from pipelines.gate import infra_verdict
from pipelines.runtime import say


@dataclasses.dataclass(frozen=True)
class Destination:
    """Where a model goes, and what is done on the way: the flags of `bitkeras push`."""

    push_dir: str
    version: int | None
    keep: int | None
    infra_validate: bool
    formats: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Judged:
    """What an exported model was found to be.

    Attributes:
      verdicts: the lines of the gate.
      manifest: what is recorded of it beside the facts of the export.
      card: its clinical card; None of an encoder alone.
    """

    verdicts: Sequence[Verdict]
    manifest: Mapping
    card: Mapping | None = None


def publish(
    execution: Execution,
    servable: Servable,
    images: Sequence[bytes],
    judge: Callable[[], Judged],
    destination: Destination,
) -> None:
    """Exports the model, and publishes it if it passes.

    Args:
      execution: where the artifacts go.
      servable: the model.
      images: encoded; the SavedModel must answer them as Keras does, and a server must.
      judge: looks at the exported model.
      destination: where to.

    Raises:
      Refused: a line of the gate was not met.
      UserError: the folder cannot be used, or the SavedModel does not answer as Keras does.
    """
    push_dir = destination.push_dir
    with full_disk_told(push_dir):
        say(
            f"writing the SavedModel to {execution.model} and comparing it with Keras in a fresh process, "
            f"to {tolerance_of(servable):g}"
        )
        facts = export_model(servable, execution.model, images=images)
        judged = judge()
        manifest = {**judged.manifest, **facts}
        name = Path(push_dir).absolute().name
        seal(execution.model, manifest, model_card=model_card(name, card=judged.card, manifest=manifest))
        tell_verdicts(judged.verdicts)
        passed = all(verdict.passed for verdict in judged.verdicts)
        execution.bless(passed, {"blessed": int(passed), "lines": [verdict.line for verdict in judged.verdicts]})
        require_passed(judged.verdicts, push_dir)
        if destination.infra_validate:
            verdict = infra_verdict(execution.model, images)
            tell_verdicts([verdict])
            execution.bless_infra(verdict.passed, {"blessed": int(verdict.passed), "lines": [verdict.line]})
            require_passed([verdict], push_dir)
        convert_all(execution, destination.formats, images)
        published = publish_copy(execution.model, push_dir, destination.version)
        execution.record_pushed(published)
    asked = (
        f"bitkeras predict --push_dir={push_dir} IMAGE" if judged.card else f"bitkeras embed --encoder={push_dir} ..."
    )
    say(f"pushed {published}; ask it: {asked}")
    if destination.keep is not None:
        pruned = prune(push_dir, destination.keep)
        say(f"deleted the versions {', '.join(map(str, pruned))}" if pruned else "no version was old enough to delete")


def tell_verdicts(verdicts) -> None:
    """One line each."""
    for verdict in verdicts:
        say(f"  {'passed ' if verdict.passed else 'REFUSED'}  {verdict.line}")


def require_passed(verdicts, push_dir: str) -> None:
    """Refused, with the lines that were not met."""
    missed = [verdict.line for verdict in verdicts if not verdict.passed]
    if missed:
        live = latest_version(push_dir)
        left = f"version {live} stays live" if live else "nothing is live"
        raise Refused(f"The model was not published: {'; '.join(missed)}. {left.capitalize()} in {push_dir}.")


def own_versions() -> dict[str, str]:
    """What the model is made with."""
    return {"bitkeras": bitkeras.__version__, "tensorflow": tf.__version__, "numpy": np.__version__}


def already_pushed(push_dir: str, version: int | None, contents: dict[str, str], form: dict) -> bool:
    """True when `version`, or the latest for None, is there and was made in this form from files of these sha256."""
    if (latest_version(push_dir) if version is None else version) not in list_versions(push_dir):
        return False
    manifest = version_path(push_dir, version) / MANIFEST
    if not manifest.is_file():
        return False
    known = {"is_frozen": False, "serve_precision": "float32", **json.loads(manifest.read_text())}
    return known.get("made_from_sha256") == contents and form.items() <= known.items()
