"""What a study found, as the content of its report: read from what its steps left, and compared."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

import numpy as np

from bitkeras.data import ImageSource
from bitkeras.data.split_files import load_split
from bitkeras.data.splits import PARTS, Split
from bitkeras.evaluation.answers import Answers, load_answers, pooled
from bitkeras.evaluation.comparison import overall_scores, paired_differences
from bitkeras.evaluation.metrics import chance_level
from bitkeras.evaluation.resplit import leakage_differences, unpaired_differences
from bitkeras.runs import RunFolder
from pipelines.clinical import ANSWERS, CARD
from pipelines.leakage import RECORD as LEAKAGE
from pipelines.leakage import audit_lines
from pipelines.probe_report import probed_split_title
from pipelines.steps import Step
from pipelines.study_arm_findings import baseline_arms, describe_arm, folder_of, num_trained_on
from pipelines.study_arms import COLLAPSE_PAIRS, SCRATCH, compared_pairs
from pipelines.study_curves import count_labels, epochs_to_target
from pipelines.study_look import MAPS, NEIGHBOURS
from pipelines.study_plan import FULL, ArmRun, Plan

RESPLIT_METRICS = ("balanced_accuracy", "macro_f1")
# What a classifier is made of: PARTS without pre-training and test.
LABELLED = PARTS[1:3]


def gather(plan: Plan, done: set[str], *, title: str) -> dict:
    """The content of the report, without what is about the study as a whole: commands, commit, facts.

    Args:
      plan: the study.
      done: names of the steps that are finished; what others would have told is left out.
      title: heading.
    """
    runs = [run for run in plan.runs if run.probes[FULL].name in done]
    arms = list({run.arm.id: run.arm for run in runs}.values())
    by_arm = {arm.id: [run for run in runs if run.arm == arm] for arm in arms}
    full = {arm: answers_of(of_arm, FULL) for arm, of_arm in by_arm.items()}
    scores = overall_scores(full)
    curves = {id: {run.seed: folder_of(run).metrics() for run in of_arm} for id, of_arm in by_arm.items()}
    leader = max(scores, key=lambda arm: scores[arm]["balanced_accuracy"]["value"])
    described = [describe_arm(arm, by_arm[arm.id], scores[arm.id], [*curves[arm.id].values()]) for arm in arms]
    trained = {id: rows for id, rows in curves.items() if by_arm[id][0].is_trained}
    found = {
        **{"title": title, "kind": "study", "arms": [*described, *baseline_arms(runs)]},
        "differences": paired_differences(full, compared_pairs(list(scores), leader)),
        "epochs_to_target": epochs_to_target(trained, num_trained_on(runs[0]), of=SCRATCH),
        "label_efficiency": label_efficiency(by_arm, done, scores),
        "maps": _maps(plan, done),
        "neighbours": _neighbours(plan, done),
        "collapse": next(({"arms": [*pair]} for pair in COLLAPSE_PAIRS if set(pair) <= set(scores)), None),
        "other_split": other_split(by_arm, done, plan.source),
        **about_data(plan, runs),
    }
    return {name: value for name, value in found.items() if value not in (None, [])}


def answers_of(runs: Sequence[ArmRun], fraction: float) -> Answers:
    """What an arm answered, its seeds together."""
    steps = [run.probes[fraction] for run in runs]
    return pooled([load_answers(step.folder / ANSWERS) for step in steps], [step.name for step in steps])


def label_efficiency(by_arm: dict[str, list[ArmRun]], done: set[str], full: dict[str, dict]) -> list[dict]:
    """Balanced accuracy of each arm by share of labels; nothing where there is one share only."""
    found = []
    for arm, runs in by_arm.items():
        points = []
        for fraction in sorted(runs[0].probes):
            there = [run for run in runs if run.probes[fraction].name in done]
            if not there:
                continue
            scores = full[arm] if fraction == FULL else overall_scores({arm: answers_of(there, fraction)})[arm]
            num_labels = count_labels(there[0].probes[fraction].folder)
            points.append({"fraction": fraction, "num_labels": num_labels, "score": scores["balanced_accuracy"]})
        if len(points) > 1:
            found.append({"arm": arm, "points": points})
    return found


def other_split(by_arm: dict[str, list[ArmRun]], done: set[str], source: ImageSource) -> dict | None:
    """The same encoders in the parts of --other_split: own and other (titles), leakage (lines), and rows.

    A row has arm, metric, own and other (scores), as `unpaired_differences` the score in the other parts less that in
    the run's own, and of_seen_lesions, the row of `leakage_differences` in the other parts (None where no lesions are
    known). None where nothing was probed twice.
    """
    rows, split = [], None
    for arm, runs in by_arm.items():
        both = [run for run in runs if run.resplit and run.resplit.name in done]
        if not both:
            continue
        probed = [run.resplit for run in both]
        other = pooled([load_answers(step.folder / ANSWERS) for step in probed], [step.name for step in probed])
        if split is None:
            titles = [_split_of(both[0], step) for step in (both[0].probes[FULL], both[0].resplit)]
            audit = json.loads((both[0].resplit.folder / LEAKAGE).read_text())
            split = load_split(RunFolder(both[0].resplit.folder).split_path, source)
        found = unpaired_differences(other, answers_of(both, FULL), metrics=RESPLIT_METRICS)
        owed = owed_to_leakage(other, split, source)
        rows += [
            {"arm": arm, "other": row.pop("a"), "own": row.pop("b"), **row, "of_seen_lesions": owed.get(row["metric"])}
            for row in found
        ]
    return {"own": titles[0], "other": titles[1], "leakage": audit_lines(audit), "rows": rows} if rows else None


def owed_to_leakage(answers: Answers, split: Split, source: ImageSource) -> dict[str, dict]:
    """Metric -> what a probe in the parts of `split` owes to test lesions that its labelled parts show too."""
    if answers.groups is None:
        return {}
    shown = np.concatenate([source.groups[split.indices(part)] for part in LABELLED])
    rows = leakage_differences(answers, np.isin(answers.groups, shown), metrics=RESPLIT_METRICS)
    return {row["metric"]: row for row in rows}


def _split_of(run: ArmRun, probe: Step) -> str:
    return probed_split_title(folder_of(run).config(), RunFolder(probe.folder).config())


def about_data(plan: Plan, runs: list[ArmRun]) -> dict:
    """Which images, how they were parted, and what the test part shares with the rest."""
    probe_dir = runs[0].probes[FULL].folder
    card = json.loads((probe_dir / CARD).read_text())
    audits = [json.loads((run.probes[FULL].folder / LEAKAGE).read_text()) for run in runs]
    # One of them has looked for near-duplicates.
    audit = next((one for one in audits if one["near_duplicates"] is not None), audits[0])
    return {
        "chance_level": chance_level(sum(row["support"] > 0 for row in card["classes"])),
        "data": plan.source.summary(),
        "split": _split_of(runs[0], runs[0].probes[FULL]),
        "num_test_images": card["num_images"],
        "num_test_lesions": card["num_groups"],
        "leakage_share": audit["sisters"]["overall"],
        "leakage": audit_lines(audit),
    }


def _maps(plan: Plan, done: set[str]) -> list[dict]:
    if plan.look is None or plan.look[1].name not in done:
        return []
    run, step = plan.look
    return [{**one, "arm": run.arm.id} for one in json.loads((step.folder / MAPS).read_text())]


def _neighbours(plan: Plan, done: set[str]) -> list[dict]:
    if plan.look is None or plan.look[1].name not in done:
        return []
    rows = json.loads((plan.look[1].folder / NEIGHBOURS).read_text())
    return [{"query": _decoded(row["query"]), "found": [_decoded(one) for one in row["found"]]} for row in rows]


def _decoded(picture: dict) -> dict:
    return {**picture, "png": base64.b64decode(picture["png"])}
