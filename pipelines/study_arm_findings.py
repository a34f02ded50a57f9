"""What a study found of each arm: scores, card, curves, verdict; read from what its runs left."""

from __future__ import annotations

import json

import numpy as np

from bitkeras.evaluation.verdict import REMEDIES, VERDICTS
from bitkeras.runs import RunFolder
from pipelines.clinical import CARD
from pipelines.report_arms import scores_of_row
from pipelines.study_arms import Arm
from pipelines.study_curves import METRIC, count_images, minutes_of
from pipelines.study_plan import FULL, ArmRun


def describe_arm(arm: Arm, runs: list[ArmRun], scores: dict, curves: list[list[dict]]) -> dict:
    """One entry of `arms`: the card and the retention are those of the first seed, and the flags."""
    probe_dir, run = runs[0].probes[FULL].folder, folder_of(runs[0])
    retention, rows = run.path / "retention.json", [score_rows(run)[0] for run in runs]
    num_images, is_trained = num_trained_on(runs[0]), runs[0].is_trained
    probe_flags = runs[0].probes[FULL].facts["flags"]
    found = {
        **{"id": arm.id, "name": arm.name, "baseline": False, "num_runs": len(runs)},
        "flags": {**run.config(), **{f"{arm.scored_by} --{flag}": value for flag, value in probe_flags.items()}},
        "scores": {**scores, METRIC: _over_seeds([row[METRIC] for row in rows])},
        "card": json.loads((probe_dir / CARD).read_text()),
        "card_of": f"seed {runs[0].seed}, the first of {len(runs)}" if len(runs) > 1 else None,
        "curves": curves if is_trained else None,
        "verdict": worst_verdict(curves) if is_trained else None,
        "retention": json.loads(retention.read_text()) if retention.is_file() else None,
        "minutes": float(np.mean([minutes_of(one, num_images) for one in curves])) if is_trained else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def worst_verdict(curves: list[list[dict]]) -> dict | None:
    """How the runs ended as the collapse sentinel saw it; of several seeds the worst."""
    ends = [rows[-1] for rows in curves if rows and rows[-1].get("verdict") in VERDICTS]
    if not ends:
        return None
    worst = max(ends, key=lambda row: VERDICTS.index(row["verdict"]))
    return {"state": worst["verdict"], "evidence": worst["evidence"], "remedy": REMEDIES[worst["verdict"]]}


def baseline_arms(runs: list[ArmRun]) -> list[dict]:
    """What every arm has to beat, from the probe that has it."""
    for run in runs:
        rows = [row for row in score_rows(run) if row.get("baseline")]
        if rows:
            return [_baseline(row) for row in rows]
    return []


def _baseline(row: dict) -> dict:
    id = "".join(letter if letter.isalnum() else "_" for letter in row["name"])
    return {"id": id, "name": row["name"], "baseline": True, "scores": scores_of_row(row), "num_runs": 1, "flags": {}}


def num_trained_on(run: ArmRun) -> int:
    """Images of an epoch of pre-training: full batches."""
    num_images, batch_size = count_images(run.pretrain.folder / "split.csv", "pretrain"), run.batch_size
    return num_images // batch_size * batch_size


def _over_seeds(values: list[float]) -> dict:
    std = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"value": float(np.mean(values)), "std": std, "interval": None, "trials": values}


def folder_of(run: ArmRun) -> RunFolder:
    """Its pre-training."""
    return RunFolder(run.pretrain.folder)


def score_rows(run: ArmRun) -> list[dict]:
    """The table of the probe on all labels: the run's encoder, then the baselines."""
    return json.loads((run.probes[FULL].folder / "scores.json").read_text())
