"""Copies what lasts of a finished `bitkeras study` beside docs/results/study.md.

    python docs/results/keep_study.py --study_dir=runs/paper_rate

docs/results/study/NAME gets report.json and the figures, without those that show photographs; docs/results/study/runs
the curves of each pre-training, and the scores and answers of its probes. Numbers have six digits, probabilities three,
and of a folder of this machine its name is left. Networks and checkpoints stay where they are.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np

KEPT = Path(__file__).resolve().parent / "study"
WITH_PHOTOGRAPHS = "neighbours"
OF_A_STEP = ("metrics.jsonl", "scores.json", "predictions.npz")


def shortened(value):
    """`value` of JSON with every number to six significant digits, and of absolute paths their names."""
    if isinstance(value, dict):
        return {key: shortened(part) for key, part in value.items()}
    if isinstance(value, list):
        return [shortened(part) for part in value]
    if isinstance(value, str) and value.startswith("/"):
        return Path(value).name
    return float(f"{value:.6g}") if isinstance(value, float) else value


def copy(path: Path, folder: Path) -> None:
    """Copies a file of a step into `folder`, shortened."""
    folder.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            kept = {name: arrays[name] for name in arrays}
        kept["probabilities"] = kept["probabilities"].astype(np.float16)
        np.savez_compressed(folder / path.name, **kept)
    elif path.suffix == ".jsonl":
        rows = [json.dumps(shortened(json.loads(line))) for line in path.read_text().splitlines()]
        (folder / path.name).write_text("".join(f"{row}\n" for row in rows))
    else:
        (folder / path.name).write_text(json.dumps(shortened(json.loads(path.read_text())), indent=2) + "\n")


def keep(study: Path, kept: Path = KEPT) -> None:
    """Copies report, figures and steps of `study` below `kept`.

    Raises:
      SystemExit: the study is not finished.
    """
    if not (study / "report.json").exists():
        raise SystemExit(
            f"{study} holds no report.json; run `bitkeras study --study_dir={study} ...` to its end first."
        )
    report = json.loads((study / "report.json").read_text())
    report.pop(WITH_PHOTOGRAPHS, None)
    figures = kept / study.name / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    (kept / study.name / "report.json").write_text(json.dumps(shortened(report)) + "\n")
    for figure in sorted((study / "figures").glob("*.png")):
        if figure.stem != WITH_PHOTOGRAPHS:
            shutil.copy(figure, figures)
    steps = json.loads((study / "plan.json").read_text())["steps"]
    folders = {step["name"]: Path(step["folder"]) for step in steps}
    for name, folder in folders.items():
        # The name of its folder ends in a key, so that arms of one name in two studies stand apart.
        if not folder.is_dir():
            raise SystemExit(f"There is no {folder}; start this where `bitkeras study` was started.")
        below = folder.relative_to(folders[name.split("/")[0]].parent)
        for path in (folder / file for file in OF_A_STEP):
            if path.exists():
                copy(path, kept / "runs" / below)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study_dir", required=True, type=Path)
    keep(parser.parse_args().study_dir)
