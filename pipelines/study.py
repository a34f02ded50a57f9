"""The seed paper's study in one command: strategies, seeds, pre-training, probes, figures, report.

The arms are BiT-S, BiT-M, SimSiam, and SimSiam from each of the two (bit_s, bit_m, simsiam, bit_s_simsiam,
bit_m_simsiam); --arms names others of the table, such as bit_m_finetuned, which `bitkeras finetune` scores, and
--extra_arms adds your own, each a list of flags of `bitkeras pretrain`. All have one split (--split_seed), so that they
are compared on the same test images; --seeds vary training and classifiers.

Every step keeps its result in --steps_dir under a key of all that it depends on: flags, the steps before it, and the
images (ids, classes, lesions, facts and file sizes). Killed, the same command makes what is missing; a file that was
changed since is noticed and made again. Studies with one --steps_dir share their steps, also while they run: start the
same command twice to use two processes. STUDY_DIR gets plan.json, steps/, report.html, report.md, report.json,
figures/.
"""

from __future__ import annotations

import json
from pathlib import Path

from absl import flags

from bitkeras.data import DATASETS
from bitkeras.errors import UserError
from bitkeras.files import written_atomically
from pipelines.command_flags import CommandFlags
from pipelines.probe import SHARE
from pipelines.runtime import say
from pipelines.step_runner import DONE, FAILED, run_steps
from pipelines.step_times import estimates, plan_lines
from pipelines.study_arms import PAPER, find_arms
from pipelines.study_plan import Plan, Planner
from pipelines.study_report import report_step

FLAGS = CommandFlags()
FLAGS.text("study_dir", None, "Where plan, steps and report go.", required=True)
FLAGS.text("data_dir", None, "The folder of the images.", required=True)
FLAGS.choice("dataset", None, DATASETS, "How the images lie on disk; none: as --preset says, or ham10000.")
FLAGS.text("preset", None, "Preset or flagfile of `bitkeras pretrain` for all arms; none: its defaults.")
FLAGS.text("pretrain_flags", None, 'More flags of `bitkeras pretrain` for all arms, as "--epochs=100 --split=lesion".')
FLAGS.text("probe_flags", None, "Flags of `bitkeras probe` for all arms, likewise.")
FLAGS.text("finetune_flags", None, "Flags of `bitkeras finetune` for the arms that it scores, likewise.")
FLAGS.text("arms", ",".join(PAPER), "Strategies by name, with commas; a wrong name lists all.")
FLAGS.text("extra_arms", None, 'Your own, as "mild: --weights=bit-m-mini --views=dermatoscopy; slow: --base_lr=0.01".')
FLAGS.text("weights_s", "bit-s-mini", "What the arms of BiT-S start from, as --weights of `bitkeras pretrain`.")
FLAGS.text("weights_m", "bit-m-mini", "Likewise of BiT-M.")
FLAGS.text("seeds", "0,1,2", "Of training and classifiers, with commas: each arm is run once for each.")
FLAGS.integer("split_seed", 0, "Of the split that all share.", at_least=0)
FLAGS.text("label_fractions", "1", "Shares of the labels to score with, with commas; all labels always are one.")
FLAGS.text(
    "other_split",
    None,
    "Probe every run a second time, with its images in these parts (paper, lesion or a table): what leakage is worth.",
)
FLAGS.integer("map_epoch", None, "Epoch of the first t-SNE map, the other is the last; none: an eighth.", at_least=1)
FLAGS.text("steps_dir", None, "Where steps are kept, to be shared by studies; none: STUDY_DIR/steps.")
FLAGS.switch("keep_going", False, "After a step has failed, go on with those that do not need it.")
FLAGS.switch("dry_run", False, "Print the plan with an estimate of the time, and stop.")
# Of --label_fraction of `bitkeras probe`.
SMALLEST = SHARE["at_least"]


def main(_) -> None:
    """Flags become plain arguments."""
    options = FLAGS.values(without=["steps_dir", "study_dir", "keep_going", "dry_run"])
    options.update(seeds=read_seeds(FLAGS.seeds), label_fractions=read_fractions(FLAGS.label_fractions))
    study_dir, steps_dir = Path(FLAGS.study_dir), FLAGS.steps_dir and Path(FLAGS.steps_dir)
    study(study_dir, options, steps_dir=steps_dir, keep_going=FLAGS.keep_going, dry_run=FLAGS.dry_run)


def study(
    study_dir: Path,
    options: dict,
    *,
    steps_dir: Path | None = None,
    keep_going: bool = False,
    dry_run: bool = False,
) -> Plan:
    """Makes what is missing of a study, and its report.

    Args:
      study_dir: where plan and report go.
      options: the other flags, name -> value; seeds and label_fractions are lists, the latter with 1 in it.
      steps_dir: of the steps; None: below `study_dir`.
      keep_going: after a failure, go on with what does not need the failed step.
      dry_run: tell the plan, and make nothing.

    Returns:
      The plan.

    Raises:
      UserError: for mistakes in the input, and at the end where steps failed.
    """
    steps_dir = study_dir / "steps" if steps_dir is None else steps_dir
    plan = Planner(options, steps_dir).plan(find_arms(options["arms"], options["extra_arms"]))
    for line in plan_lines(estimates(plan.steps, steps_dir)):
        say(line)
    if dry_run:
        return plan
    save_plan(study_dir / "plan.json", plan, options)
    how = {"locks_dir": steps_dir / ".locks", "say": say}
    outcomes = run_steps(plan.steps, keep_going=keep_going, **how)
    done = {name for name, outcome in outcomes.items() if outcome == DONE}
    unfinished = {name: outcome for name, outcome in outcomes.items() if outcome != DONE}
    if any(run.probes[1.0].name in done for run in plan.runs):
        run_steps([report_step(study_dir, plan, options, unfinished)], **how)
        say(f"report: {study_dir / 'report.html'}")
    if unfinished:
        failed = [name for name, outcome in unfinished.items() if outcome == FAILED]
        raise UserError(
            f"{len(failed)} of {len(plan.steps)} steps failed ({', '.join(failed)}), and "
            f"{len(unfinished) - len(failed)} that need them were left out; the report tells of the rest. Mend what "
            "was told above and give the same command again, which makes what is missing."
        )
    return plan


def save_plan(path: Path, plan: Plan, options: dict) -> None:
    """Writes what the study is made of."""
    steps = [
        {
            **{"name": step.name, "key": step.key, "folder": str(step.folder), "line": step.line},
            "inputs": [one.name for one in step.inputs],
        }
        for step in plan.steps
    ]
    with written_atomically(path) as beside:
        beside.write_text(json.dumps({"options": options, "data": plan.data_key, "steps": steps}, indent=2) + "\n")


def read_seeds(text: str) -> list[int]:
    """The numbers in "0,1,2", each once; flags.Error where there are none."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdigit() for part in parts):
        raise flags.Error(f"--seeds={text} must be whole numbers from 0 on, with commas, such as --seeds=0,1,2")
    return list(dict.fromkeys(int(part) for part in parts))


def read_fractions(text: str) -> list[float]:
    """The shares in "0.1,1" in order, with 1 among them; flags.Error where one is no share."""
    try:
        shares = {float(part) for part in text.split(",") if part.strip()}
    except ValueError:
        shares = {0.0}
    if not all(SMALLEST <= share <= 1 for share in shares):
        raise flags.Error(
            f"--label_fractions={text} must be shares from {SMALLEST:g} to 1, with commas, such as "
            "--label_fractions=0.1,1"
        )
    return sorted({1.0, *shares})


if __name__ == "__main__":
    import sys

    from pipelines.cli import main as command_line

    command_line(["study", *sys.argv[1:]])
