"""The report of a probe: `report.json` for programs and `report.md` for people, from the same content."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import bitkeras
from bitkeras.files import written_atomically

_PACKAGES = ("tensorflow", "numpy", "scikit-learn")

# Facts with a part of their own in the report; all others are listed under "Facts".
_SPECIAL_FACTS = (
    *("commands", "chance_level", "num_test_images", "num_test_lesions", "data", "split"),
    *("leakage_share", "leakage"),
)


def write_report(
    run_dir: str | Path,
    *,
    title: str,
    scores: Sequence[Mapping],
    facts: Mapping,
    figures: Mapping[str, str | Path] | None = None,
) -> Path:
    """Write `report.json` and `report.md` into `run_dir`, each whole or not at all.

    Args:
      run_dir: folder of the run; made if it is not there.
      title: heading.
      scores: rows with name, balanced_accuracy, balanced_accuracy_std, interval [low, high], macro_f1,
        macro_f1_std (`metrics.score_row` makes them), all in [0, 1]; and, where they exist,
        knn_balanced_accuracy and baseline (True for what an encoder has to beat).
      facts: names to strings or numbers, listed as they stand. These names have a place of their own:
        data (what images), split (how they were parted), chance_level, num_test_images, num_test_lesions,
        leakage_share (fraction of test images with another photo of their lesion in a part that the model is
        made of), leakage (list of what the audit told), commands (list of shell lines that reproduce the run).
      figures: caption -> image file, embedded by its path relative to `run_dir`.

    Returns:
      The path of `report.md`.
    """
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    links = {caption: Path(os.path.relpath(path, run_dir)).as_posix() for caption, path in (figures or {}).items()}
    report = {"title": title, "summary": summarise(scores, facts), "scores": list(scores), "facts": dict(facts)}
    report = _plain({**report, "figures": links, "versions": _versions()})
    # Both texts before either file: what cannot be told in one leaves both reports as they were.
    texts = {"report.json": json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"}
    texts["report.md"] = _markdown(report)
    for name, text in texts.items():
        with written_atomically(run_dir / name) as beside:
            beside.write_text(text, encoding="utf-8")
    return run_dir / "report.md"


def summarise(scores: Sequence[Mapping], facts: Mapping) -> list[str]:
    """Plain sentences: who leads, whether that is clear of the baselines, and on what it was measured."""
    sentences = []
    if scores:
        encoders = [row for row in scores if not row.get("baseline")] or list(scores)
        leader = max(encoders, key=lambda row: row["balanced_accuracy"])
        sentences.append(f"{leader['name']} reaches a balanced accuracy of {_score(leader)}.")
        sentences += _comparison(leader, [row for row in scores if row is not leader])
    if facts.get("chance_level") is not None:
        sentences.append(f"Chance is {facts['chance_level']:.3f}.")
    if facts.get("num_test_images") is not None:
        lesions = f" of {facts['num_test_lesions']} lesions" if facts.get("num_test_lesions") is not None else ""
        sentences.append(f"The test part holds {facts['num_test_images']} images{lesions}.")
    sentences += [f"{name.capitalize()}: {_stop(facts[name])}" for name in ("data", "split") if facts.get(name)]
    if facts.get("leakage_share"):
        sentences.append(
            f"{facts['leakage_share']:.1%} of the test images show a lesion that has another photo in a part that the "
            "model is made of, so the scores flatter."
        )
    return sentences


def _comparison(leader: Mapping, others: list[Mapping]) -> list[str]:
    """Sentences on the leader's interval against the baselines, or against every other row where none is marked."""
    rivals = [row for row in others if row.get("baseline")] or others
    ahead = [row["name"] for row in rivals if row["balanced_accuracy"] >= leader["balanced_accuracy"]]
    rated = [row for row in rivals if row["name"] not in ahead and row.get("interval") and leader.get("interval")]
    clear = [row["name"] for row in rated if row["interval"][1] < leader["interval"][0]]
    overlapping = [row["name"] for row in rated if row["name"] not in clear]
    sentences = []
    if ahead:
        scores = [f"{row['name']} ({row['balanced_accuracy']:.3f})" for row in rivals if row["name"] in ahead]
        sentences.append(f"That does not beat {_listed(scores)}.")
    if clear:
        sentences.append(f"Its interval is clear of {_listed(clear)}.")
    if overlapping:
        sentences.append(f"Its interval overlaps with {_listed(overlapping)}: that lead may be luck.")
    return sentences


def _markdown(report: dict) -> str:
    parts = [f"# {report['title']}", " ".join(report["summary"]), _table(report["scores"])]
    parts.append(
        "Balanced accuracy and macro F1 are fractions, mean ± standard deviation over trials; the interval is for "
        "other test images of the same kind, not for another training run."
    )
    parts += [f"![{caption}]({link})\n\n*{caption}*" for caption, link in report["figures"].items()]
    listed = {name: value for name, value in report["facts"].items() if name not in _SPECIAL_FACTS}
    if listed:
        parts += ["## Facts", "\n".join(f"- {name}: {_number(value)}" for name, value in listed.items())]
    if report["facts"].get("leakage"):
        parts += ["## Leakage", "\n".join(f"- {line.strip()}" for line in report["facts"]["leakage"])]
    if report["facts"].get("commands"):
        parts += ["## To reproduce", "```\n" + "\n".join(report["facts"]["commands"]) + "\n```"]
    parts += ["## Versions", ", ".join(f"{name} {version}" for name, version in report["versions"].items())]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(scores: Sequence[Mapping]) -> str:
    lines = ["| encoder | balanced accuracy | 95 % interval | macro F1 | kNN |", "|---|---|---|---|---|"]
    for row in sorted(scores, key=lambda row: -row["balanced_accuracy"]):
        name = row["name"].replace("|", "\\|") + (" (baseline)" if row.get("baseline") else "")
        knn = row.get("knn_balanced_accuracy")
        cells = [name, _spread(row, "balanced_accuracy"), _interval(row), _spread(row, "macro_f1")]
        lines.append("| " + " | ".join([*cells, "" if knn is None else f"{knn:.3f}"]) + " |")
    return "\n".join(lines) if scores else ""


def _spread(row: Mapping, metric: str) -> str:
    """'0.412 ± 0.008', or what of it is known."""
    if row.get(metric) is None:
        return ""
    std = row.get(f"{metric}_std")
    return f"{row[metric]:.3f}" + ("" if std is None else f" ± {std:.3f}")


def _interval(row: Mapping) -> str:
    return f"{row['interval'][0]:.3f} to {row['interval'][1]:.3f}" if row.get("interval") else ""


def _score(row: Mapping) -> str:
    interval = _interval(row)
    return f"{row['balanced_accuracy']:.3f}" + (f" (95 % interval {interval})" if interval else "")


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _stop(text) -> str:
    return f"{text}".rstrip(".") + "."


def _number(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"


def _versions() -> dict[str, str]:
    versions = {"bitkeras": bitkeras.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            # tensorflow-cpu and the like carry other names; a missing version is no reason to lose a report.
            continue
    return versions


def _plain(value):
    """NumPy values, paths and tuples as JSON has them; a float that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
