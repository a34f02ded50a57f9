"""The command lines of a study's steps, and what their flags come to."""

from __future__ import annotations

import shlex

import tensorflow as tf

from bitkeras.backbones.shipped import SHIPPED, shipped_card
from pipelines import cli, finetune, pretrain, probe
from pipelines.probe_report import AS_PRETRAINED
from pipelines.splitting import settled_probe_split
from pipelines.starting_point import DEFAULT_BACKBONE
from pipelines.steps import Step
from pipelines.study_arms import Arm

# Flags of `bitkeras probe` that do not decide what comes out.
PROBE_CONDUCT = ("data_dir", "on_bad_image", "find_duplicates", "feature_cache")
# Likewise of `bitkeras finetune`.
FINETUNE_CONDUCT = ("data_dir", "find_duplicates")


def pretrain_arguments(arm: Arm, seed: int, options: dict) -> list[str]:
    """Arguments of `bitkeras pretrain` for one arm and seed, but for its folder; the arm's come last."""
    arguments = [f"--flagfile={options['preset']}"] if options["preset"] else []
    arguments += [f"--dataset={options['dataset']}"] if options["dataset"] else []
    arguments += shlex.split(options["pretrain_flags"] or "")
    arguments += [f"--data_dir={options['data_dir']}", *arm.flags_from(options["weights_s"], options["weights_m"])]
    return [*arguments, f"--seed={seed}", f"--split_seed={options['split_seed']}"]


def pretrain_flags(arguments: list[str]) -> dict:
    """The flags that decide what comes out of `bitkeras pretrain`, with their defaults; flags.Error for wrong ones."""
    pretrain.FLAGS.parse(cli.with_presets([*arguments, "--run_dir=RUN"]))
    return pretrain.FLAGS.values(without=["run_dir", *pretrain.ALL_CONDUCT])


def probe_flags(arguments: list[str]) -> dict:
    """Those of `bitkeras probe`; --split as `settled_probe_split` has it."""
    probe.FLAGS.parse(cli.with_presets([*arguments, "--run_dir=RUN"]))
    flags = probe.FLAGS.values(without=["run_dir", "name", *PROBE_CONDUCT])
    return settled_probe_split(flags, own_images=flags["dataset"] == AS_PRETRAINED)


def finetune_flags(arguments: list[str]) -> dict:
    """Those of `bitkeras finetune`."""
    finetune.FLAGS.parse(cli.with_presets([*arguments, "--run_dir=RUN"]))
    return finetune.FLAGS.values(without=["run_dir", "name", *FINETUNE_CONDUCT])


def snapshots_of(num_epochs: int, map_epoch: int | None) -> list[int]:
    """The early epoch of the maps; of the paper's 400 it is 50."""
    early = map_epoch or max(1, num_epochs // 8)
    return [early] if early < num_epochs else []


def backbone_of(flags: dict) -> str:
    """The network of a run, for estimates."""
    known = shipped_card(flags["weights"])["backbone"] if flags["weights"] in SHIPPED else DEFAULT_BACKBONE
    return flags["backbone"] or known


def kind_of(command: str, trained: Step) -> str:
    """Of a step on the network of `trained`."""
    return trained.kind.replace("pretrain", command).partition(",")[0]


def run_command(command: str, arguments: list[str]) -> None:
    """Runs a command in this process: starting another one takes 20 s of a core."""
    try:
        cli.run(command, arguments)
    finally:
        # Else the graphs of all steps stay in memory.
        tf.keras.backend.clear_session()
