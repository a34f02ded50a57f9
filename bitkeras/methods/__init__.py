"""METHODS and `build_method`: self-supervised training on pairs of views."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import tensorflow as tf

from bitkeras.errors import UserError
from bitkeras.methods.byol import BYOL
from bitkeras.methods.heads import HEAD_NORMS
from bitkeras.methods.simclr import SimCLR
from bitkeras.methods.simsiam import SimSiam
from bitkeras.methods.trainer import ViewTrainer
from bitkeras.methods.vicreg import VICReg

__all__ = [
    "BYOL",
    "HEAD_NORMS",
    "METHODS",
    "METHOD_OPTIONS",
    "SimCLR",
    "SimSiam",
    "VICReg",
    "build_method",
    "has_option",
    "settled_options",
]

METHODS = {"byol": BYOL, "simclr": SimCLR, "simsiam": SimSiam, "vicreg": VICReg}
# Arguments of one constructor or several that a user may set, under flags of the same names.
METHOD_OPTIONS = ("num_projections", "num_hidden", "num_predictor_hidden", "temperature", "base_tau", "head_norm")
_FLAGS = {"predictor_scale": "fix_predictor_lr"}


def settled_options(method: str, options: Mapping[str, object]) -> dict[str, object]:
    """`options` with the paper's value of `method` in place of every None, for the record of a run.

    Args:
      method: a name of `METHODS`.
      options: arguments of the constructors of `METHODS` -> values.

    Returns:
      The same names; None for what the method does not have, or takes from another size.

    Raises:
      UserError: an option is given that the method does not have.
    """
    defaults = _defaults(method)
    for option, value in options.items():
        if value is not None and option not in defaults:
            flag, others = _FLAGS.get(option, option), [name for name in METHODS if option in _defaults(name)]
            raise UserError(
                f"--{flag} means nothing to --method={method}; it is for {' and '.join(others)}, so leave it out or "
                "pass another --method."
            )
    return {option: defaults.get(option) if value is None else value for option, value in options.items()}


def build_method(
    method: str, encoder: tf.keras.Model, *, num_steps: int, weight_decay: float, **options: object
) -> ViewTrainer:
    """The method `METHODS[method]` around an encoder, not compiled.

    Args:
      method: a name of `METHODS`.
      encoder: views, float32 [B, H, W, 3] -> features, float32 [B, D], with the weights it starts from: BYOL's target
        is made from them.
      num_steps: the optimizer's steps in the whole of training.
      weight_decay: as in `ViewTrainer`.
      **options: further arguments of the constructor; None for the paper's value.

    Raises:
      UserError: an option is given that the method does not have.
    """
    given = {option: value for option, value in settled_options(method, options).items() if value is not None}
    schedule = {"num_steps": num_steps} if "num_steps" in _defaults(method) else {}
    return METHODS[method](encoder, weight_decay=weight_decay, **schedule, **given)


def has_option(method: str, option: str) -> bool:
    """True when the constructor of `method` takes `option`."""
    return option in _defaults(method)


def _defaults(method: str) -> dict[str, object]:
    """Arguments of the constructor -> their defaults."""
    # Of __init__, since Keras's models have a __new__ that takes anything.
    return {name: known.default for name, known in inspect.signature(METHODS[method].__init__).parameters.items()}
