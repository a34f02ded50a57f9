"""The rates and weight decays that a linear probe chooses from."""

from __future__ import annotations

import math

from bitkeras.errors import UserError
from bitkeras.evaluation.probe import LR_GRID, WEIGHT_DECAY_GRID
from pipelines.command_flags import CommandFlags

# What a probe recorded before it had these flags; such a probe is one of today that was given them.
_BEFORE = {"lr_grid": (3e-4, 1e-3, 3e-3), "weight_decay_grid": (0.0,)}
_ALLOWED = {"lr_grid": "above 0", "weight_decay_grid": "of at least 0"}


def define_grid_flags(flags: CommandFlags) -> None:
    """--lr_grid and --weight_decay_grid."""
    what = (
        "Peak rates of AdamW, with commas; the best on validation is taken. The paper chooses the epoch and nothing "
        "else: give one rate, and --weight_decay_grid=0."
    )
    flags.text("lr_grid", _text(LR_GRID), what)
    what = "Weight decays, with commas, chosen together with the rate; one value, such as 0, is no choice."
    flags.text("weight_decay_grid", _text(WEIGHT_DECAY_GRID), what)


def settled_grids(options: dict) -> dict:
    """`options` with the grids as a run records them: in one spelling, and None where earlier versions had no flag.

    Raises:
      UserError: a grid is no list of numbers, or of such as are not allowed.
    """
    grids = {flag: parse_grid(flag, options[flag]) for flag in _BEFORE}
    return {**options, **{flag: None if grid == _BEFORE[flag] else _text(grid) for flag, grid in grids.items()}}


def read_grids(options: dict) -> dict[str, tuple[float, ...]]:
    """What `settled_grids` recorded -> the arguments of `train_linear_probe`."""
    return {flag: parse_grid(flag, options[flag]) if options.get(flag) else before for flag, before in _BEFORE.items()}


def parse_grid(flag: str, text: str) -> tuple[float, ...]:
    """The numbers of a grid.

    Raises:
      UserError: it is no list of different numbers that `flag` allows.
    """
    try:
        numbers = tuple(float(word) for word in text.split(","))
    except ValueError:
        numbers = ()
    smallest = math.ulp(0.0) if flag == "lr_grid" else 0.0
    if not numbers or any(not smallest <= number < math.inf for number in numbers) or len(set(numbers)) < len(numbers):
        raise UserError(
            f"--{flag}={text} is no list of different numbers {_ALLOWED[flag]}; pass them with commas, such as "
            f"--{flag}={_text((1e-3, 1e-2))}."
        )
    return numbers


def _text(numbers: tuple[float, ...]) -> str:
    return ",".join(f"{number:g}" for number in numbers)
