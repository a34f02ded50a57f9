"""Set finished, probed runs side by side.

The runs follow the flags: --output_dir=DIR RUN RUN [RUN ...], each a run folder, or RUN:NAME for a probe under another
name. They must have been tested on the same images. DIR gets report.html, report.md and report.json: scores, paired
differences with their verdicts, curves and clinical cards.
"""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from bitkeras.errors import UserError
from bitkeras.evaluation.answers import Answers, load_answers
from bitkeras.evaluation.comparison import overall_scores, paired_differences
from bitkeras.evaluation.metrics import chance_level
from bitkeras.evaluation.report import write_report
from bitkeras.runs import RunFolder
from pipelines.clinical import ANSWERS, CARD
from pipelines.command_flags import CommandFlags
from pipelines.provenance import find_commit
from pipelines.report_arms import arm_of_run, baseline_arm, scores_of_row, title
from pipelines.runtime import say

TAKES_ARGUMENTS = True
# Of more runs, all pairs would be a table that nobody reads; the best is then compared with each.
ALL_PAIRS_UP_TO = 4
COMPARED = ("balanced_accuracy", "macro_f1", "roc_auc")

FLAGS = CommandFlags()
FLAGS.text("output_dir", None, "Where the report goes; a report that is there is replaced.", required=True)


def main(arguments: list[str]) -> None:
    """Flags become plain arguments."""
    compare(arguments, output_dir=Path(FLAGS.output_dir))


def compare(arguments: Sequence[str], *, output_dir: Path) -> None:
    """Writes the report of several probes.

    Args:
      arguments: RUN or RUN:NAME.
      output_dir: new, empty, or of an earlier comparison.

    Raises:
      UserError: fewer than two probes, one that is not finished, or probes of different test images.
    """
    probes = find_probes(arguments)
    if output_dir.is_dir() and any(output_dir.iterdir()) and not (output_dir / "report.json").is_file():
        raise UserError(f"--output_dir={output_dir} holds files that are no report; pass a new or empty folder.")
    names = distinct_names(probes)
    answers = {name: load_answers(run.path / probe / ANSWERS) for name, (run, probe) in zip(names, probes)}
    say(f"{len(probes)} probes on {len(answers[names[0]].labels)} test images")
    scores = overall_scores(answers)
    ranked = sorted(names, key=lambda name: -scores[name][COMPARED[0]]["value"])
    differences = paired_differences(answers, compared_pairs(ranked), metrics=COMPARED)
    arms = [_arm(run, probe, name, scores[name]) for name, (run, probe) in zip(names, probes)]
    reports = [_read(run.path / probe / "report.json") for run, probe in probes]
    command = shlex.join(["bitkeras", "compare", f"--output_dir={output_dir}", *arguments])
    content = {
        **{"title": f"{len(probes)} encoders compared", "kind": "comparison", "differences": differences},
        "arms": [*arms, *baselines(probes)],
        **about_data(answers[names[0]], reports),
        **{"leakage": leakage_lines(names, reports), "commit": find_commit()},
        # Each probe's own commands come first, once where two probes are of one run.
        "commands": list(dict.fromkeys([*(line for each in reports for line in each.get("commands", [])), command])),
    }
    page = write_report(output_dir, content)
    for name in ranked:
        say(f"  {name:<42} balanced accuracy {scores[name][COMPARED[0]]['value']:.3f}")
    for row in differences:
        if row["metric"] == COMPARED[0]:
            say(f"  {row['a']} − {row['b']}: {_told(row)}")
    say(f"report: {page}")


def find_probes(arguments: Sequence[str]) -> list[tuple[RunFolder, str]]:
    """The run and the name of each probe.

    Raises:
      UserError: fewer than two, one twice, or one that is not there or not finished.
    """
    probes = []
    for argument in arguments:
        # A folder may have a colon in its name.
        path, _, name = (argument, "", "") if Path(argument).is_dir() else argument.rpartition(":")
        run, name = RunFolder(path or argument), name or "probe"
        if not run.config_path.is_file():
            raise UserError(f"{argument} is no run folder (there is no {run.config_path}); pass RUN or RUN:NAME.")
        # Written last, so where it stands the probe is whole.
        if not (run.path / name / "report.md").is_file():
            made = ", ".join(sorted(path.parent.name for path in run.path.glob("*/report.md"))) or "none"
            raise UserError(
                f"{run.path} has no finished probe {name!r} (finished: {made}); run "
                f"`bitkeras probe --run_dir={run.path} --name={name}` first."
            )
        probes.append((run, name))
    places = [(run.path.resolve(), name) for run, name in probes]
    if len(set(places)) < len(places):
        raise UserError("The same probe was given twice; each can be compared with others only.")
    if len(probes) < 2:
        raise UserError(f"A comparison needs two probes or more, not {len(probes)}; name run folders behind the flags.")
    return probes


def distinct_names(probes: Sequence[tuple[RunFolder, str]]) -> list[str]:
    """What each encoder is called: what it is or was fine-tuned from, and as much of its place as is needed."""
    titles = [title(run.config(), fine_tuned=_is_fine_tuned(run, name)) for run, name in probes]
    forms = (
        titles,
        [f"{told} ({run.path.name})" for told, (run, _) in zip(titles, probes)],
        [f"{told} ({run.path.name}:{name})" for told, (run, name) in zip(titles, probes)],
        [f"{told} ({run.path}:{name})" for told, (run, name) in zip(titles, probes)],
    )
    return next(names for names in forms if len(set(names)) == len(names))


def _is_fine_tuned(run: RunFolder, name: str) -> bool:
    return RunFolder(run.path / name).config().get("command") == "finetune"


def compared_pairs(ranked: Sequence[str]) -> list[tuple[str, str]]:
    """Every pair of a few, best first; of many, the best with each of the others."""
    if len(ranked) <= ALL_PAIRS_UP_TO:
        return list(itertools.combinations(ranked, 2))
    return [(ranked[0], other) for other in ranked[1:]]


def baselines(probes: Sequence[tuple[RunFolder, str]]) -> list[dict]:
    """The baselines of all probes, each once."""
    found: dict[str, Mapping] = {}
    for run, name in probes:
        for row in _read(run.path / name / "scores.json"):
            if row.get("baseline"):
                known = found.get(row["name"])
                same = known is None or known["balanced_accuracy"] == row["balanced_accuracy"]
                # The random encoder of another backbone is another one.
                told = row["name"] if same else f"{row['name']} ({run.path.name}:{name})"
                found[told] = {**row, "name": told}
    return [baseline_arm(row, place) for place, row in enumerate(found.values(), start=1)]


def about_data(answers: Answers, reports: Sequence[Mapping]) -> dict:
    """What the test part is; what the probes say differently is left to their own reports."""
    found = {
        **{"num_test_images": len(answers.labels), "chance_level": chance_level(len(set(answers.labels)))},
        "num_test_lesions": None if answers.groups is None else len(set(answers.groups)),
    }
    for key in ("data", "split"):
        told = {report[key] for report in reports if report.get(key)}
        found |= {key: told.pop()} if len(told) == 1 else {}
    shares = [report.get("leakage_share") for report in reports if "leakage_share" in report]
    known = [share for share in shares if share is not None]
    # The worst of them: none of the encoders has more test images with a sister photo.
    return {**found, "leakage_share": max(known) if known else None} if shares else found


def leakage_lines(names: Sequence[str], reports: Sequence[Mapping]) -> list[str]:
    """The audits, with the encoder's name where they differ."""
    audits = [report.get("leakage") or [] for report in reports]
    if all(audit == audits[0] for audit in audits):
        return audits[0]
    return [f"{name}: {line}" for name, audit in zip(names, audits) for line in audit]


def _arm(run: RunFolder, probe: str, name: str, scores: Mapping) -> dict:
    folder = RunFolder(run.path / probe)
    row, card = _read(folder.path / "scores.json")[0], folder.path / CARD
    arm = {**arm_of_run(run, probe_options=folder.config()), "id": name, "name": name}
    arm["scores"] = {**scores_of_row(row), **scores}
    return {**arm, "card": _read(card)} if card.is_file() else arm


def _read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


def _told(row: Mapping) -> str:
    if row["difference"] is None:
        return "not defined"
    low, high = row["interval"] or (float("nan"), float("nan"))
    return f"{row['difference']:+.3f} [{low:+.3f}, {high:+.3f}], {row['verdict']}"


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["compare", *sys.argv[1:]])
