"""The last step of a study: what its steps found, handed to the report."""

from __future__ import annotations

import shlex
from pathlib import Path

from bitkeras.evaluation.report import write_report
from pipelines.provenance import find_commit
from pipelines.steps import Step, step_key
from pipelines.study_findings import gather
from pipelines.study_plan import Plan

REPORTED = ("report.html", "report.json", "report.md")


def report_step(study_dir: Path, plan: Plan, options: dict, unfinished: dict[str, str]) -> Step:
    """The last step; it depends on all that are done, and is made again where one of them was."""
    done = tuple(step for step in plan.steps if step.name not in unfinished)
    # The images count by what they are, and not by where they lie.
    told = {name: value for name, value in options.items() if name != "data_dir"}

    def write() -> None:
        content = gather(plan, {step.name for step in done}, title=f"Study on {plan.source.name}")
        facts = {
            "Seeds": ", ".join(map(str, options["seeds"])),
            "Images": f"sha256 {plan.data_key[:16]} of ids, classes, lesions, facts and file sizes",
        }
        if unfinished:
            facts["Not in this report"] = "; ".join(f"{name} ({outcome})" for name, outcome in unfinished.items())
        lines = [study_line(study_dir, options), *(step.line for step in done if step.line)]
        write_report(study_dir, {**content, "facts": facts, "commands": lines, "commit": find_commit()})

    key = step_key("report", flags={**told, "unfinished": unfinished}, inputs=done, data=plan.data_key)
    return Step("report", key, study_dir, REPORTED, write, inputs=done)


def study_line(study_dir: Path, options: dict) -> str:
    """The command that makes the study again."""
    given = {name: value for name, value in options.items() if value is not None}
    given.update({name: ",".join(f"{one:g}" for one in given[name]) for name in ("seeds", "label_fractions")})
    return shlex.join(["bitkeras", "study", f"--study_dir={study_dir}", *(f"--{n}={v}" for n, v in given.items())])
