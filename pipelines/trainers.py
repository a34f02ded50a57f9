"""The method, its optimizer and its learning rate, from the flags of `bitkeras pretrain`."""

from __future__ import annotations

import tensorflow as tf

from bitkeras.addons import lamb
from bitkeras.backbones.matmul_convs import use_matmuls
from bitkeras.callbacks.sentinel import throttled
from bitkeras.errors import UserError
from bitkeras.methods import HEAD_NORMS, METHOD_OPTIONS, METHODS, build_method, has_option, settled_options
from bitkeras.methods.average import require_decay
from bitkeras.schedules import scaled_lr, undo, warmup_cosine
from bitkeras.sgd import SGD
from pipelines.command_flags import CommandFlags
from pipelines.runtime import say


def define_method_flags(flags: CommandFlags) -> None:
    """The method, what its paper leaves open, and the optimizer."""
    flags.choice("method", "simsiam", METHODS, "The self-supervised method.")
    flags.integer("num_projections", None, "E, the length of projections; none: as published.", at_least=1)
    flags.integer("num_hidden", None, "Width of the projector's hidden layers; likewise.", at_least=1)
    flags.integer("num_predictor_hidden", None, "Width of the predictor's hidden layer; likewise.", at_least=1)
    what = "Norm of projector and predictor; batch: as published, layer: layer norm, none: none, and biases."
    flags.choice("head_norm", "batch", HEAD_NORMS, what)
    flags.number("temperature", None, "Of simclr; none: as published.", at_least=1e-6)
    flags.number("base_tau", None, "Of byol, the share of the target that stays in the first step; none: as published.")
    what = (
        "Keep a moving average of the encoder, of this decay a step (0.99): kNN monitor, collapse sentinel, snapshots "
        "and encoder.keras are of the average."
    )
    flags.number("ema", None, f"{what} Not for byol, whose target is one.")
    flags.choice("optimizer", "sgd", ["sgd", "lamb"], "sgd: the paper's; lamb: for batches of thousands.")
    flags.number("base_lr", 0.03, "Learning rate per 256 images; the optimizer gets it times batch_size/256.")
    flags.integer("warmup_epochs", 0, "Epochs over which the rate rises from 0.", at_least=0)
    flags.number("weight_decay", 5e-4, "Added to the gradient of every weight, as PyTorch's SGD does.")
    flags.switch("fix_predictor_lr", False, "Keep the predictor's rate constant (SimSiam, table 1).")


def settled_method(config: dict) -> dict:
    """`config` with the values of the method's paper where none were given.

    Raises:
      UserError: for flags that do not go together.
    """
    method, uses_lamb = config["method"], config["optimizer"] == "lamb"
    if uses_lamb and config["fix_predictor_lr"]:
        raise UserError(
            "--fix_predictor_lr scales gradients, and --optimizer=lamb is blind to their scale; pass one of the two."
        )
    settled_options(method, {"predictor_scale": config["fix_predictor_lr"] or None})
    if config["ema"] is not None:
        require_average(method, config["ema"])
    options = {option: config[option] for option in METHOD_OPTIONS}
    for option in [option for option in options if not has_option(method, option)]:
        # Not refused: it may come from a preset, which nothing can take it out of.
        if options[option] is not None:
            say(f"--{option}={options[option]} means nothing to --method={method} and is left out")
        options[option] = None
    return {**config, **settled_options(method, options)}


def require_average(method: str, decay: float) -> None:
    """UserError where `method` cannot keep an average of its encoder by `decay`."""
    require_decay(decay)
    if method == "byol":
        raise UserError(
            "--ema keeps a moving average of the encoder, and --method=byol has one, the target that it learns from "
            "(--base_tau); leave --ema out, or pass another --method."
        )


def build_trainer(
    config: dict, encoder: tf.keras.Model, steps_per_epoch: int, *, rate_factor: tf.Variable | None = None
) -> tf.keras.Model:
    """The method around the encoder, compiled.

    Args:
      config: of the run, settled.
      encoder: with the weights it starts from.
      steps_per_epoch: steps of one epoch.
      rate_factor: what the learning rate is multiplied by; None for 1.
    """
    lr = scaled_lr(config["base_lr"], config["batch_size"])
    num_steps = config["epochs"] * steps_per_epoch
    schedule = warmup_cosine(lr, num_steps=num_steps, warmup_steps=config["warmup_epochs"] * steps_per_epoch)
    say(f"{config['method']}: {steps_per_epoch} steps of {config['batch_size']} an epoch, learning rate {lr:g}")
    uses_lamb = config["optimizer"] == "lamb"
    trainer = build_method(
        config["method"],
        encoder,
        num_steps=num_steps,
        # LAMB decays by itself, in proportion to each layer's rate.
        weight_decay=0.0 if uses_lamb else config["weight_decay"],
        predictor_scale=undo(schedule, lr) if config["fix_predictor_lr"] else None,
        **{option: config.get(option) for option in METHOD_OPTIONS},
    )
    rate = schedule if rate_factor is None else throttled(schedule, rate_factor)
    if config.get("ema"):
        trainer.keep_average(config["ema"])
    use_matmuls(encoder)
    optimizer = lamb(rate, weight_decay=config["weight_decay"]) if uses_lamb else SGD(rate, momentum=0.9)
    trainer.compile(optimizer=optimizer)
    return trainer
