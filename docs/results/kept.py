"""What keep_study.py kept of the studies, for the scripts that look at several of them at once."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from keep_study import KEPT

from bitkeras.evaluation.answers import Answers, load_answers, pooled

RUNS = KEPT / "runs"


def kept_answers(study: str, prefix: str, *, split: str | None = None) -> Answers | None:
    """The answers of an encoder's runs with all labels; None: nothing was kept.

    Args:
      study: a folder of docs/results/study.
      prefix: of the folders of its runs.
      split: what --other_split of the study was; None: on its own split.
    """
    folders = [
        f"{flags['run_dir']}/{flags['name']}"
        for command, flags in _steps(study)
        if command in ("probe", "finetune") and flags["label_fraction"] == "1" and flags.get("split") == split
        if flags["run_dir"].startswith(prefix)
    ]
    if not folders:
        return None
    return pooled([load_answers(RUNS / folder / "predictions.npz") for folder in folders], folders)


def kept_curves(study: str, prefix: str) -> dict[int, list[dict]]:
    """Seed -> rows of metrics.jsonl of an encoder's runs, without any where nothing was kept; arguments as above."""
    return {
        int(flags["seed"]): [json.loads(line) for line in (RUNS / flags["run_dir"] / "metrics.jsonl").open()]
        for command, flags in _steps(study)
        if command == "pretrain" and flags["run_dir"].startswith(prefix)
    }


def _steps(study: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(command, flags) of the steps of a study; of run_dir the name alone."""
    report = KEPT / study / "report.json"
    for line in json.loads(report.read_text())["commands"][1:] if report.exists() else []:
        _, command, *words = shlex.split(line)
        flags = dict(word[2:].partition("=")[::2] for word in words)
        yield command, {**flags, "run_dir": flags["run_dir"].rpartition("/")[2]}


def told(row: dict) -> str:
    """A difference with its interval; bold where it is resolved."""
    low, high = row["interval"]
    text = f"{row['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
    return f"**{text}**" if row["resolved"] else text
