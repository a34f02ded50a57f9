"""The report of one probe: its run, the runs beside it, and the baselines."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bitkeras.evaluation.comparison import paired_differences
from bitkeras.evaluation.metrics import OF_TALLY, chance_level
from bitkeras.evaluation.projection import tsne
from bitkeras.evaluation.report import write_report
from bitkeras.runs import RunFolder
from pipelines.encoder_scores import EncoderScores
from pipelines.provenance import find_commit
from pipelines.report_arms import arm_of_run, baseline_arm, scores_of_row, title
from pipelines.splitting import split_title

AS_PRETRAINED = "as_pretrained"


def write_probe_report(
    run: RunFolder,
    name: str,
    options: Mapping,
    scores: EncoderScores,
    *,
    rows: Sequence[Mapping],
    others: Sequence[RunFolder],
    card: Mapping,
    test_features: np.ndarray,
    known: Mapping,
    data_dir: str | None,
) -> Path:
    """Draws and writes it into the folder of the probe; returns the path of report.html.

    Args:
      run: that was probed.
      name, options: of the probe.
      scores: what its test part is.
      rows: of scores.json: the run's own, those of `others`, baselines.
      others: the runs of --beside.
      card: clinical card of the run's encoder.
      test_features: float [N, D].
      known: leakage_share, leakage and facts, as `write_report` takes them.
      data_dir: as the probe was given it.
    """
    arms = [{**arm_of_run(run, probe_options=options), "id": "probed", "name": rows[0]["name"], "card": card}]
    arms[0]["scores"] = {**scores_of_row(rows[0]), **card["overall"]}
    for place, (other, row) in enumerate(zip(others, rows[1:]), start=1):
        arm = {"id": f"beside{place}", "name": row["name"], "scores": scores_of_row(row)}
        arms.append({**arm_of_run(other, probe_options=options), **arm})
    arms += [baseline_arm(row, place) for place, row in enumerate(rows[1 + len(others) :], start=1)]
    points = tsne(test_features, seed=options["seed"])
    shown = {"title": "test part", "arm": "probed", "points": points, "labels": scores.labels["test"]}
    content = {
        **{"title": f"{title(scores.config)}: {scores.config['backbone']} on {scores.source.name}", "kind": "probe"},
        **{"arms": arms, "maps": [{**shown, "class_names": scores.source.class_names}], "commit": find_commit()},
        "differences": differences(arms, scores),
        **describe(run, name, options, scores, data_dir),
        **known,
    }
    return write_report(run.path / name, content)


def differences(arms: Sequence[Mapping], scores: EncoderScores) -> list[dict]:
    """The probed encoder less each other and each baseline, on the same test images."""
    answers = {arm["id"]: scores.answers[arm["name"]] for arm in arms}
    pairs = [("probed", other) for other in answers if other != "probed"]
    return paired_differences(answers, pairs, metrics=tuple(OF_TALLY), seed=scores.options["seed"])


def typed(options: Mapping) -> dict:
    """The recorded options of a probe as flags of its command."""
    flags = {name: value for name, value in options.items() if name not in ("resplit", "command")}
    if options["dataset"] == AS_PRETRAINED:
        del flags["dataset"]
    # Typed for the run's own images, --split would ask for another one.
    return flags if options["dataset"] != AS_PRETRAINED or options.get("resplit") else {**flags, "split": None}


def probed_split_title(config: Mapping, options: Mapping) -> str:
    """What the split of a probe is called."""
    if options["dataset"] != AS_PRETRAINED:
        return split_title(options)
    if options.get("resplit"):
        return f"{split_title(options)}, where pre-training had {split_title(config)}"
    return split_title(config)


def describe(run: RunFolder, name: str, options: Mapping, scores: EncoderScores, data_dir: str | None) -> dict:
    """What a reader of the report must know, and the commands that make it again."""
    config = scores.config
    parts = ", ".join(f"{part} {len(indices)}" for part, indices in scores.indices.items())
    command = options.get("command", "probe")
    commands = {
        "pretrain": {"run_dir": run.path, **config},
        command: {"run_dir": run.path, "name": name, **typed(options), **({"data_dir": data_dir} if data_dir else {})},
    }
    return {
        "data": scores.source.summary(),
        "split": f"{probed_split_title(config, options)} ({parts})",
        # Balanced accuracy is a mean over the classes that have test images.
        "chance_level": chance_level(len(np.unique(scores.labels["test"]))),
        "num_test_images": len(scores.indices["test"]),
        "num_test_lesions": None if scores.groups is None else len(set(scores.groups)),
        "commands": [
            shlex.join(
                ["bitkeras", command, *(f"--{flag}={value}" for flag, value in flags.items() if value is not None)]
            )
            for command, flags in commands.items()
        ],
    }
