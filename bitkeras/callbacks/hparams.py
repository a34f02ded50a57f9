"""One row for each run in TensorBoard's table of runs: its flags and its final scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from bitkeras.evaluation.metrics import METRICS

# Where things lie decides nothing about the scores.
_PATHS = ("data_dir", "run_dir")
# TensorBoard shows the first five scores at once: no more of either kind than that.
_FINAL = ("images_per_second", "knn_balanced_accuracy", "loss", "rankme", "test_accuracy")
_PROBED = (*METRICS, "knn_balanced_accuracy")


def write_hparams(
    folder: str | Path, config: Mapping, scores: Mapping[str, float] | None = None, *, step: int = 0
) -> None:
    """Writes the row of a run, or adds scores to it.

    The folder is the row: TensorBoard keeps the first flags and the last scores it finds there, so that a run that goes
    on, and a later probe, write to the same row.

    Args:
      folder: RUN_DIR/tensorboard/hparams, with no other writer's event files in it: TensorBoard stops reading one when
        there is a later one beside it.
      config: flag names -> values. Flags that are None stay empty cells: the column of a number with the text "none"
        in it could not be sorted, since TensorBoard's server fails on comparing the two.
      scores: tag -> final score, as of `final_scores` or `probe_scores`; those that are not finite are left out. None
        for a run that has only started; else it counts as finished.
      step: the epoch of the scores.
    """
    from tensorboard.plugins.hparams import api, api_pb2, summary

    # No summary of the experiment beside it: TensorBoard takes that of one run for all, and so hides what this run has
    # not (the scores of a probe), and which flags differ (tensorboard issues 2014 and 3597). It finds types by itself.
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default(step=step):
        # No id, so that the row is named by its folder. The default, a hash of the flags, makes one row of two runs.
        api.hparams(_columns(config), trial_id="")
        for tag, score in (scores or {}).items():
            if math.isfinite(score):
                tf.summary.scalar(tag, score)
        if scores is not None:
            finished = summary.session_end_pb(api_pb2.STATUS_SUCCESS)
            tf.summary.experimental.write_raw_pb(finished.SerializeToString(), step=step)
    writer.close()


def final_scores(rows: Sequence[Mapping]) -> dict[str, float]:
    """Tag -> the last epoch's number, from the rows of `metrics.jsonl`."""
    last = rows[-1] if rows else {}
    return {f"training/{name}": last[name] for name in _FINAL if name in last}


def probe_scores(name: str, row: Mapping) -> dict[str, float]:
    """Tag -> score on the test part, from the row of `scores.json` that is the run's; `name` is the probe's."""
    return {f"{name}/{metric}": row[metric] for metric in _PROBED if metric in row}


def _columns(config: Mapping) -> dict[str, bool | float | str]:
    kept = {name: value for name, value in config.items() if name not in _PATHS and value is not None}
    return {
        name: ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value for name, value in kept.items()
    }
