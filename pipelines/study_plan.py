"""The graph of a study: pretrain(arm, seed) -> probe or finetune(arm, seed, share of labels), and a look at one arm."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

from bitkeras.data import ImageSource
from bitkeras.errors import UserError
from pipelines.checksums import content_of, images_fingerprint
from pipelines.grids import parse_grid
from pipelines.runtime import read_existing
from pipelines.step_times import relative_cost
from pipelines.steps import Step, step_key
from pipelines.study_arms import SCRATCH, Arm
from pipelines.study_commands import (
    backbone_of,
    finetune_flags,
    kind_of,
    pretrain_arguments,
    pretrain_flags,
    probe_flags,
    run_command,
    snapshots_of,
)
from pipelines.study_look import LOOKED, look

# All labels.
FULL = 1.0
PRETRAINED = ("config.json", "split.csv", "metrics.jsonl", "encoder.keras")
PROBED = ("scores.json", "card.json", "predictions.npz", "probe.npz", "leakage.json", "report.md")
FINETUNED = (*PROBED, "encoder.keras")
# Of the passes of an image through the network that a training step takes: two views, forward, and back twice as long.
PASSES = 6
# Of a step on labels: one view, forward, and back twice as long.
TUNING_PASSES = 3
# Of the images, as both kinds of split deal them; for estimates.
PRETRAIN_SHARE = 0.6
# Of the training part of the labels, and of the validation part.
LABELLED_SHARE = 0.1


@dataclasses.dataclass(frozen=True)
class ArmRun:
    """The steps of one arm and seed: its pre-training, the probes by share of labels, and that of --other_split.

    Of an arm that is scored by it, the probes are fine-tunings.
    """

    arm: Arm
    seed: int
    pretrain: Step
    probes: dict[float, Step]
    resplit: Step | None = None

    @property
    def is_trained(self) -> bool:
        """Whether it has epochs."""
        return self.pretrain.facts["flags"]["epochs"] > 0

    @property
    def batch_size(self) -> int:
        """Images a step."""
        return self.pretrain.facts["flags"]["batch_size"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a study is made of.

    Attributes:
      runs: by arm and seed; two may share steps.
      look: the step of maps and neighbours, with its run; None where no arm is trained.
      steps: all of them, inputs first.
      source: the images.
      data_key: their fingerprint.
    """

    runs: list[ArmRun]
    look: tuple[ArmRun, Step] | None
    steps: list[Step]
    source: ImageSource
    data_key: str


class Planner:
    """Makes the steps; equal ones are one step.

    Args:
      options: flags of `bitkeras study`, name -> value, with seeds and label_fractions as lists.
      steps_dir: where the steps' folders lie.
    """

    def __init__(self, options: dict, steps_dir: Path):
        self.options, self.steps_dir = options, steps_dir
        self.steps: dict[str, Step] = {}

    def plan(self, arms: list[Arm]) -> Plan:
        """All steps of a study of `arms`.

        Raises:
          UserError, flags.Error: for images that cannot be read and flags that do not parse.
        """
        config = pretrain_flags(pretrain_arguments(arms[0], 0, self.options))
        self.source = read_existing(config)
        if self.source.labels is None:
            raise UserError(f"{self.source.name} has no labels, and a study compares by them; pass a labelled set.")
        self.data_key = images_fingerprint(self.source)
        # What every arm has to beat is scored once, beside the network from scratch where there is one.
        probed = [arm for arm in arms if arm.scored_by == "probe"]
        self.beside_baselines = next((arm for arm in probed if arm.id == SCRATCH), probed[0] if probed else None)
        runs = [self._run(arm, seed) for arm in arms for seed in self.options["seeds"]]
        return Plan(runs, self._look(runs), list(self.steps.values()), self.source, self.data_key)

    def _run(self, arm: Arm, seed: int) -> ArmRun:
        trained = self._pretrain(arm, seed)
        fractions = self.options["label_fractions"]
        if arm.scored_by == "finetune":
            # Not in the parts of --other_split: the command knows the run's own only.
            return ArmRun(arm, seed, trained, {one: self._finetune(trained, seed, one) for one in fractions})
        probes = {fraction: self._probe(arm, trained, seed, fraction) for fraction in fractions}
        return ArmRun(arm, seed, trained, probes, self._resplit(arm, trained, seed))

    def _resplit(self, arm: Arm, trained: Step, seed: int) -> Step | None:
        """The probe in the parts of --other_split."""
        split = self.options.get("other_split")
        if not split:
            return None
        if content_of(split) == trained.facts["flags"]["split"]:
            raise UserError(
                f"--other_split={split} is the split that {arm.id} is pre-trained with; pass another one, or leave it "
                "out."
            )
        return self._probe(arm, trained, seed, FULL, split=split)

    def _pretrain(self, arm: Arm, seed: int) -> Step:
        arguments = pretrain_arguments(arm, seed, self.options)
        flags = pretrain_flags(arguments)
        name = f"{arm.id}-seed{seed}"
        if not flags["epochs"] and flags["norm"] == "group" and flags["weights"] != "none":
            # Nothing of it is drawn: one encoder for all seeds, which then vary the classifiers alone.
            arguments, name = pretrain_arguments(arm, 0, self.options), arm.id
            flags = pretrain_flags(arguments)
        snapshots = snapshots_of(flags["epochs"], self.options["map_epoch"])
        decisive = {flag: value for flag, value in flags.items() if flag not in ("run_dir", "data_dir")}
        decisive.update({flag: content_of(flags[flag]) for flag in ("split", "weights")}, snapshots=snapshots)
        backbone, size = backbone_of(flags), flags["image_size"]
        num_images = min(flags["num_images"] or len(self.source), round(PRETRAIN_SHARE * len(self.source)))
        conduct = [f"--snapshot_epochs={','.join(map(str, snapshots))}"] if snapshots else []
        # Once is enough: all arms have one split.
        conduct += ["--nofind_duplicates"] if self.steps else []
        return self._add(
            "pretrain",
            name,
            step_key("pretrain", flags=decisive, data=self.data_key),
            parent=self.steps_dir,
            arguments=lambda folder: [*arguments, *conduct, f"--run_dir={folder}"],
            outputs=(*PRETRAINED, *(f"snapshots/epoch_{epoch:04d}.keras" for epoch in snapshots)),
            optional=("leakage.json", "retention.json", "weights.json"),
            kind=f"pretrain {backbone} at {size} px{'' if flags['epochs'] else ', frozen'}",
            work=len(self.source) + PASSES * flags["epochs"] * num_images,
            facts={"flags": decisive, "num_images": num_images, "cost": relative_cost(backbone, size)},
        )

    def _probe(self, arm: Arm, trained: Step, seed: int, fraction: float, *, split: str | None = None) -> Step:
        is_first = (arm, seed, fraction) == (self.beside_baselines, self.options["seeds"][0], FULL)
        baselines = is_first and split is None
        shared = ["--nobaselines", *shlex.split(self.options["probe_flags"] or "")]
        arguments = [*shared, f"--seed={seed}", f"--label_fraction={fraction:g}"]
        arguments += ["--baselines"] if baselines else []
        arguments += [f"--split={split}"] if split else []
        flags = probe_flags(arguments)
        flags["split"] = content_of(flags["split"])
        if flags["beside"]:
            raise UserError("--probe_flags has --beside; in a study, name what is to be compared by --arms.")
        return self._score(
            "probe",
            f"seed{seed}-labels-{fraction:g}" + (f"-split-{Path(split).stem}" if split else ""),
            trained,
            arguments,
            flags,
            outputs=PROBED,
            kind=kind_of("probe", trained) + (", baselines" if baselines else ""),
            work=(1 - PRETRAIN_SHARE) * len(self.source) * (2 if baselines else 1),
        )

    def _finetune(self, trained: Step, seed: int, fraction: float) -> Step:
        shared = shlex.split(self.options.get("finetune_flags") or "")
        arguments = [*shared, f"--seed={seed}", f"--label_fraction={fraction:g}"]
        flags = finetune_flags(arguments)
        # After each epoch the validation part is looked at.
        passes = len(parse_grid("lr_grid", flags["lr_grid"])) * flags["epochs"] * (TUNING_PASSES * fraction + 1)
        return self._score(
            "finetune",
            # Not the name of a probe of the same run.
            f"finetune-seed{seed}-labels-{fraction:g}",
            trained,
            arguments,
            flags,
            outputs=FINETUNED,
            kind=kind_of("finetune", trained),
            work=(1 - PRETRAIN_SHARE + passes * LABELLED_SHARE) * len(self.source),
        )

    def _score(self, command: str, name: str, trained: Step, arguments: list[str], flags: dict, **fields) -> Step:
        """A step of `command` on the run of `trained`, below its folder."""
        # Of the first run the audit is there, with the near-duplicates; of others they are not asked for again.
        conduct = [f"--data_dir={self.options['data_dir']}", "--nofind_duplicates"]
        return self._add(
            command,
            name,
            step_key(command, flags=flags, inputs=(trained,), data=self.data_key),
            parent=trained.folder,
            inputs=(trained,),
            arguments=lambda folder: [*arguments, *conduct, f"--run_dir={trained.folder}", f"--name={folder.name}"],
            optional=("labels.csv", "split.csv", "report.json", "report.html"),
            facts={"flags": flags, "cost": trained.facts["cost"]},
            **fields,
        )

    def _look(self, runs: list[ArmRun]) -> tuple[ArmRun, Step] | None:
        """At the paper's best arm, or the first that is trained: the same one whatever the scores come to be."""
        trained = [run for run in runs if run.is_trained]
        if not trained:
            return None
        run = next((run for run in trained if run.arm.id == "bit_m_simsiam"), trained[0])
        epochs = run.pretrain.facts["flags"]["snapshots"]
        flags = {"seed": run.seed, "epochs": epochs}
        folder, data_dir = run.pretrain.folder, self.options["data_dir"]
        step = self._add(
            "look",
            "look",
            step_key("look", flags=flags, inputs=(run.pretrain,), data=self.data_key),
            parent=folder,
            inputs=(run.pretrain,),
            outputs=LOOKED,
            kind=kind_of("look", run.pretrain),
            work=(len(epochs) + 2) * 0.2 * len(self.source),
            facts={"flags": flags, "cost": run.pretrain.facts["cost"]},
            make=lambda into: look(folder, into, data_dir=data_dir, **flags),
        )
        return run, step

    def _add(self, command, name, key, *, parent: Path, arguments=None, make=None, **fields) -> Step:
        """The step with this key, made unless there is one."""
        if key not in self.steps:
            # A step keeps its folder under whatever name another study made it.
            folder = next(iter(sorted(parent.glob(f"*-{key[:8]}"))), parent / f"{name}-{key[:8]}")
            line = arguments and shlex.join(["bitkeras", command, *arguments(folder)])
            run = (lambda: make(folder)) if make else (lambda: run_command(command, arguments(folder)))
            # Of this study's arm: the folder may have its name from another one.
            above = "".join(f"{step.name}/" for step in fields.get("inputs", ()))
            self.steps[key] = Step(f"{above}{name}", key, folder, make=run, line=line, **fields)
        return self.steps[key]
