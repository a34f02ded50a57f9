"""What a scored encoder leaves in its folder: scores, answers, card, classifier, report, and a line in TensorBoard."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from bitkeras.callbacks.embedding import SPRITE_SIZE, projector_indices, write_projector
from bitkeras.callbacks.hparams import probe_scores, write_hparams
from bitkeras.data.batches import naming_bad_images
from bitkeras.evaluation.probe import ProbeResult, probe_probabilities
from bitkeras.runs import RunFolder
from pipelines.clinical import write_card
from pipelines.encoder_scores import EncoderScores
from pipelines.leakage import audit_lines, seen_counts
from pipelines.probe_report import write_probe_report
from pipelines.runtime import say


@dataclasses.dataclass(frozen=True)
class Found:
    """What is to be told of an encoder.

    Attributes:
      name: of its row.
      features: part -> float32 [N, D].
      result: its calibrated classifiers.
      rows: of scores.json: its own, those of `others`, baselines.
      others: the runs of --beside.
      leakage: what the test part shares with what the model is made of.
      facts: further lines of the report.
    """

    name: str
    features: Mapping[str, np.ndarray]
    result: ProbeResult
    rows: Sequence[dict]
    others: Sequence[RunFolder]
    leakage: Mapping
    facts: Mapping


def conclude(
    run: RunFolder,
    name: str,
    options: dict,
    scores: EncoderScores,
    found: Found,
    *,
    data_dir: str | None = None,
) -> None:
    """Writes it all below `run`, the report last, and prints the scores.

    Args:
      run, name, options: of the probe, and the flags it has.
      scores: what its test part is.
      found: what came out.
      data_dir: as it was given.
    """
    folder, config, rows, result = run.path / name, run.config(), found.rows, found.result
    features = found.features
    kernel, bias = result.kernels[result.best_trial], result.biases[result.best_trial]
    card = write_card(folder, found.name, scores, features, result)
    for row in rows[: 1 + len(found.others)]:
        row.update(seen_counts(found.leakage))
    rows[0].update({area: card["overall"][area]["value"] for area in ("roc_auc", "pr_auc")})
    scores.save_probe(folder / "probe.npz", features, result)
    scores.save_predictions(folder / "predictions.csv", probe_probabilities(features["test"], kernel, bias))
    run.write_json(folder / "scores.json", rows)
    write_hparams(run.tensorboard_path / "hparams", config, probe_scores(name, rows[0]), step=config["epochs"])
    show_features(run, scores, features["test"])
    shares = {"leakage_share": found.leakage["sisters"]["overall"], "leakage": audit_lines(found.leakage)}
    page = write_probe_report(
        *(run, name, options, scores),
        **{"rows": rows, "others": found.others, "card": card, "test_features": features["test"]},
        known={**shares, "facts": found.facts},
        data_dir=data_dir,
    )
    for row in rows:
        low, high = row["interval"]
        score = f"balanced accuracy {row['balanced_accuracy']:.3f} [{low:.3f}, {high:.3f}]"
        say(f"  {row['name']:<42} {score}  macro F1 {row['macro_f1']:.3f}")
    named = "" if name == "probe" else f" --name={name}"
    say(f"report: {page}; next: bitkeras push --run_dir={run.path}{named} --push_dir=...")


def show_features(run: RunFolder, scores: EncoderScores, features: np.ndarray) -> None:
    """The test features, of which the report's t-SNE is, in TensorBoard's projector beside the run's scores."""
    indices = scores.indices["test"]
    shown = projector_indices(np.arange(len(indices)))
    with naming_bad_images(scores.source):
        write_projector(
            run.tensorboard_path / "hparams",
            features[shown],
            scores.batches(indices[shown], image_size=SPRITE_SIZE),
            image_ids=scores.source.image_ids[indices[shown]],
            labels=scores.labels["test"][shown],
            class_names=scores.source.class_names,
        )
