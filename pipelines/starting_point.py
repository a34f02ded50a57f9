"""What the flags about the start of a run mean together: which network, which weights, which swap of the norm."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bitkeras.backbones.norm_swap import SWAPS, NormSwap
from bitkeras.backbones.pretrained import Pretrained, read_pretrained
from bitkeras.backbones.shipped import SHIPPED
from bitkeras.errors import UserError
from bitkeras.runs import RunFolder

SWAP_FLAGS = ("swap", "ws", "bn_init", "bn_calibrate")
DEFAULT_SWAP = "paper"
DEFAULT_BACKBONE, DEFAULT_STEM = "R50x1", "imagenet"


def settled_start(run: RunFolder, config: dict) -> tuple[dict, Pretrained | None]:
    """(`config` with every flag about the start as it takes effect, the weights).

    Args:
      run: where they may be recorded already; weights are not read then, since they may be gone.
      config: flags of `bitkeras pretrain`; None where one was not given.

    Returns:
      In the config: backbone, stem, stem_init (None where no stem is made to fit), and of a swap its ws, bn_init and
      bn_calibrate, with swap naming the preset that has these values or None. Where nothing is swapped they are
      None, but for ws="keep" where BN weights come with standardising convolutions. The weights
      are empty where the run was started before, and None for --weights=none.

    Raises:
      UserError: for weights that cannot be read and for flags that do not go together.
    """
    config = {**config, "weights": _absolute(config["weights"] or "none")}
    if config["weights"] == "none":
        return _without_weights(config), None
    recorded = run.config() if run.config_path.exists() else {}
    remembered = recorded.get("weights") == config["weights"]
    pretrained = _remembered(recorded) if remembered else read_pretrained(config["weights"])
    network = {"backbone": _backbone(config, pretrained), **_stem(config, pretrained)}
    return {**config, **network, **_swap(config, pretrained)}, pretrained


def _absolute(weights: str) -> str:
    """A path that the run can be taken up with from another folder; names and handles as they are."""
    is_path = weights != "none" and weights not in SHIPPED and "://" not in weights
    return str(Path(weights).absolute()) if is_path and Path(weights).exists() else weights


def swap_of(config: dict) -> NormSwap | None:
    """The swap that a recorded config stands for."""
    if config["weights"] == "none" or config["norm"] == "group":
        return None
    if "bn_init" not in config:
        # Runs of the first version knew no other swap.
        return SWAPS["paper"]
    return NormSwap(*(config[flag] for flag in SWAP_FLAGS[1:])) if config["bn_init"] else None


def require_images(bn_calibrate: int | None, num_images: int) -> None:
    """UserError when the flag --bn_calibrate asks for more images than there are; a preset takes what there is."""
    if (bn_calibrate or 0) > num_images:
        raise UserError(
            f"--bn_calibrate={bn_calibrate}, and there are {num_images} images to pre-train on; pass at most that."
        )


def _remembered(recorded: dict) -> Pretrained:
    """What the config of a started run says about its weights."""
    return Pretrained(
        recorded["weights"],
        {},
        norm="group" if recorded["norm"] == "group" or swap_of(recorded) else "batch",
        weight_standardization=recorded["norm"] == "group" or recorded.get("ws") == "keep",
        backbone=recorded["backbone"],
        stem=DEFAULT_STEM if recorded.get("stem_init") else recorded["stem"],
    )


def _without_weights(config: dict) -> dict:
    for flag in (*SWAP_FLAGS, "stem_init"):
        if config[flag] is not None:
            raise UserError(
                f"--{flag}={config[flag]} says what to do with given weights, and there are none; pass --weights, or "
                "leave it out."
            )
    return {**config, "backbone": config["backbone"] or DEFAULT_BACKBONE, "stem": config["stem"] or DEFAULT_STEM}


def _backbone(config: dict, pretrained: Pretrained) -> str:
    given, known = config["backbone"], pretrained.backbone
    if given and known and given != known:
        raise UserError(
            f"--weights={pretrained.origin} are of {known}, and --backbone={given} was asked for, maybe by a flagfile; "
            f"pass --backbone={known} after it, or other weights."
        )
    return given or known or DEFAULT_BACKBONE


def _stem(config: dict, pretrained: Pretrained) -> dict:
    """What becomes of the flags about the stem."""
    stem = config["stem"] or pretrained.stem or DEFAULT_STEM
    if pretrained.stem == "cifar" and stem == "imagenet":
        raise UserError(
            f"--weights={pretrained.origin} have the 3x3 stem, and no 7x7 kernel can be made of it; pass --stem=cifar."
        )
    made_to_fit = stem == "cifar" and pretrained.stem != "cifar"
    if config["stem_init"] and not made_to_fit:
        reason = f"and {'these weights have a 3x3 one' if stem == 'cifar' else 'this run has the 7x7 stem'}"
        raise UserError(
            f"--stem_init={config['stem_init']} is for a 3x3 stem (--stem=cifar) made of a 7x7 kernel, {reason}; leave "
            "it out."
        )
    return {"stem": stem, "stem_init": (config["stem_init"] or "random") if made_to_fit else None}


def _swap(config: dict, pretrained: Pretrained) -> dict:
    """The swap flags as they take effect."""
    given = {flag: config[flag] for flag in SWAP_FLAGS if config[flag] is not None}
    if config["norm"] == "group" or pretrained.norm == "batch":
        return _no_swap(config, pretrained, given)
    preset = SWAPS[given.get("swap", DEFAULT_SWAP)]
    swap = dataclasses.replace(preset, **{flag: value for flag, value in given.items() if flag != "swap"})
    if swap.bn_init == "match" and not swap.bn_calibrate:
        raise UserError(
            "--bn_init=match takes scale and offset from the images of --bn_calibrate, which is 0; pass, for example, "
            "--bn_calibrate=1024."
        )
    # The name of what takes effect, so that one network has one record, however its flags were given.
    name = next((name for name, preset in SWAPS.items() if preset == swap), None)
    return {"swap": name, **dataclasses.asdict(swap)}


def _no_swap(config: dict, pretrained: Pretrained, given: dict) -> dict:
    if config["norm"] == "group" and pretrained.norm == "batch":
        raise UserError(
            f"--weights={pretrained.origin} have batch norm, of which no group norm can be made; pass --norm=batch."
        )
    kept = "keep" if pretrained.norm == "batch" and pretrained.weight_standardization else None
    refused = {flag: value for flag, value in given.items() if (flag, value) != ("ws", kept)}
    if refused:
        told = " and ".join(f"--{flag}={value}" for flag, value in refused.items())
        reason = (
            "--norm=group keeps BiT's own norm"
            if config["norm"] == "group"
            else f"--weights={pretrained.origin} have batch norm already, with statistics of their own"
        )
        raise UserError(f"{told} is about swapping group norm for batch norm, and {reason}; leave it out.")
    return {**dict.fromkeys(SWAP_FLAGS), "ws": kept}
