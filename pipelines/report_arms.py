"""Runs and rows of the table of scores, as the arms of a report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from bitkeras.evaluation.verdict import REMEDIES
from bitkeras.runs import RunFolder

METRICS = ("balanced_accuracy", "macro_f1", "accuracy", "roc_auc", "pr_auc", "knn_balanced_accuracy")


def title(config: Mapping, *, fine_tuned: bool = False) -> str:
    """What the encoder of a run is, or with `fine_tuned` what `bitkeras finetune` makes of it."""
    weights = config["weights"]
    start = "random weights" if weights == "none" else weights if "://" in weights else Path(weights).name
    if config["epochs"] == 0:
        if fine_tuned:
            return f"{start}, fine-tuned"
        return f"{start}, frozen" if config["norm"] == "group" else f"{start}, not trained on"
    trained = f"{config['method']} from {start}, {config['epochs']} epoch{'s' if config['epochs'] > 1 else ''}"
    return f"{trained}, fine-tuned" if fine_tuned else trained


def arm_of_run(run: RunFolder, *, probe_options: Mapping) -> dict:
    """What the folder of a run tells beside its scores: flags, and curves, verdict and retention where it has them.

    Args:
      run: a finished run.
      probe_options: the flags of its probe; they stand behind "probe", or their "command", in the table.
    """
    command = probe_options.get("command", "probe")
    own = {f"{command} --{flag}": value for flag, value in probe_options.items() if flag != "command"}
    flags = {**run.config(), **own}
    arm, rows, retention = {"flags": flags, "num_runs": 1}, run.metrics(), run.path / "retention.json"
    if any("loss" in row for row in rows):
        arm["curves"] = [rows]
    last = rows[-1] if rows else {}
    if last.get("epoch") and last.get("verdict") in REMEDIES:
        arm["verdict"] = {
            **{"state": last["verdict"], "evidence": last.get("evidence", "")},
            "remedy": REMEDIES[last["verdict"]],
        }
    if retention.is_file():
        arm["retention"] = json.loads(retention.read_text())
    return arm


def scores_of_row(row: Mapping) -> dict[str, dict]:
    """Metric -> score, of a row of scores.json; of its intervals that of balanced accuracy is known."""
    return {
        metric: {
            **{"value": row[metric], "std": row.get(f"{metric}_std"), "trials": []},
            "interval": row.get("interval") if metric == METRICS[0] else None,
        }
        for metric in METRICS
        if row.get(metric) is not None
    }


def baseline_arm(row: Mapping, place: int) -> dict:
    """A baseline's row as an arm."""
    scores = scores_of_row(row)
    return {"id": f"baseline{place}", "name": row["name"], "baseline": True, "num_runs": 1, "scores": scores}
