"""What a probe says beyond its table of scores: calibrated answers, and the clinical card made of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from bitkeras.evaluation.calibration import fit_temperature
from bitkeras.evaluation.card import clinical_card
from bitkeras.evaluation.probe import ProbeResult, probe_probabilities
from bitkeras.files import written_atomically
from pipelines.encoder_scores import EncoderScores

CARD = "card.json"
ANSWERS = "predictions.npz"


def calibrated(scores: EncoderScores, features: dict[str, np.ndarray], result: ProbeResult) -> ProbeResult:
    """`result` with each classifier's temperature, fitted on the validation part, folded into its weights."""
    temperatures = np.array(
        [
            fit_temperature(features["probe_val"] @ kernel + bias, scores.labels["probe_val"])
            for kernel, bias in zip(result.kernels, result.biases)
        ]
    )
    return dataclasses.replace(
        result,
        kernels=(result.kernels / temperatures[:, None, None]).astype(np.float32),
        biases=(result.biases / temperatures[:, None]).astype(np.float32),
        temperatures=temperatures,
    )


def write_card(
    folder: Path, name: str, scores: EncoderScores, features: dict[str, np.ndarray], result: ProbeResult
) -> dict:
    """Writes the answers and the card of a calibrated probe into `folder`.

    Args:
      folder: of the probe.
      name: of the encoder's row.
      scores: what the test part is.
      features: part -> float32 [N, D].
      result: as `calibrated` returns it.

    Returns:
      The card.
    """
    source, test = scores.source, scores.indices["test"]
    answers = dataclasses.replace(scores.answers[name], best_trial=result.best_trial)
    temperatures = result.temperatures
    before = result.kernels * temperatures[:, None, None], result.biases * temperatures[:, None]
    card = clinical_card(
        answers,
        uncalibrated=probe_probabilities(features["test"], *before),
        temperature=float(temperatures[result.best_trial]),
        facts={name: values[test] for name, values in source.facts.items()},
        seed=scores.options["seed"],
    )
    answers.save(folder / ANSWERS)
    with written_atomically(folder / CARD) as beside:
        beside.write_text(json.dumps(card, allow_nan=False) + "\n")
    return card
