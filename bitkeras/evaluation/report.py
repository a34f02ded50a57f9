"""The report of a probe, a comparison or a study: one content as a page, as text, and as JSON for programs."""

from __future__ import annotations

import base64
import dataclasses
import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import bitkeras
from bitkeras.evaluation.figures.catalogue import draw_figures
from bitkeras.evaluation.report_html import page
from bitkeras.evaluation.report_markdown import markdown
from bitkeras.evaluation.report_summary import summarise
from bitkeras.files import written_atomically

_PACKAGES = ("tensorflow", "numpy", "scikit-learn", "matplotlib")
FIGURES = "figures"


def write_report(folder: str | Path, content: Mapping) -> Path:
    """Writes report.json, report.html and, last, report.md into `folder`, each whole or not at all.

    Scores are dicts of value, std, interval [low, high] and trials, fractions in [0, 1], as `comparison.overall_scores`
    and the clinical card have them; None stands for what is not defined. What is absent is left out of the page.

    Args:
      folder: made if it is not there; its folder `figures` gets SVG and PNG files.
      content: title and arms; and where they are known kind ("probe", "comparison" or "study"), differences (as
        `comparison.paired_differences`), epochs_to_target, label_efficiency, maps, neighbours, collapse (arms: ids of
        two to set side by side), other_split (own, other, leakage and rows of arm, metric, own, other, what
        `resplit.unpaired_differences` tells, and of_seen_lesions, None or a row of `resplit.leakage_differences`),
        chance_level, data, split, num_test_images, num_test_lesions, leakage_share (fraction of test images with a
        sister photo in a part that the models are made of; None: nothing is known), leakage (lines), facts (name ->
        value), commands (shell lines that make it again), commit.
        An arm has id, name, scores (metric -> score), and where they are known baseline (what an encoder has to beat),
        num_runs, card, curves (rows of metrics.jsonl, a list a seed), verdict (state, evidence, remedy), retention,
        flags, minutes.

    Returns:
      The path of report.html.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = plain({"kind": "report", **content})
    pictures = draw_figures(content, folder / FIGURES)
    versions, summary = _versions(), summarise(content)
    drawings = {each.name: (folder / FIGURES / f"{each.name}.svg").read_text(encoding="utf-8") for each in pictures}
    figures = [
        {**dataclasses.asdict(each), "svg": f"{FIGURES}/{each.name}.svg", "png": f"{FIGURES}/{each.name}.png"}
        for each in pictures
    ]
    told = {**content, "summary": [sentence for _, sentence in summary], "figures": figures, "versions": versions}
    # All texts before any file: what cannot be told in one leaves all as they were.
    texts = {
        "report.json": json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False, default=_encoded) + "\n",
        "report.html": page(content, summary, figures, drawings, versions),
        "report.md": markdown(content, summary, figures, versions),
    }
    for name, text in texts.items():
        with written_atomically(folder / name) as beside:
            beside.write_text(text, encoding="utf-8")
    return folder / "report.html"


def plain(value):
    """NumPy values, paths and tuples as JSON has them; a float that is not finite becomes None, bytes stay."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, (str, int, float, bool, bytes, type(None))) else str(value)


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _versions() -> dict[str, str]:
    versions = {"bitkeras": bitkeras.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            # tensorflow-cpu and the like carry other names; a missing version is no reason to lose a report.
            continue
    return versions
