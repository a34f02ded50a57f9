"""What a study compares: strategies by name, each some flags of `bitkeras pretrain`."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Sequence

from bitkeras.errors import UserError


@dataclasses.dataclass(frozen=True)
class Arm:
    """One strategy.

    Attributes:
      id: short name.
      name: what the report calls it.
      flags: of `bitkeras pretrain`, after those that all arms share; {s} and {m} are --weights_s and --weights_m.
      scored_by: "probe", or "finetune" where the labels train the whole network.
    """

    id: str
    name: str
    flags: tuple[str, ...] = ()
    scored_by: str = "probe"

    def flags_from(self, weights_s: str, weights_m: str) -> list[str]:
        """Its flags with the weights filled in."""
        return [
            flag.replace(FROM_S, f"--weights={weights_s}").replace(FROM_M, f"--weights={weights_m}")
            for flag in self.flags
        ]


FROM_S, FROM_M = "--weights={s}", "--weights={m}"
_FROZEN = ("--norm=group", "--epochs=0")
_TABLE = (
    # The seed paper's five (Lu, Jha, Huo 2021, table 1).
    Arm("bit_s", "BiT-S", (FROM_S, *_FROZEN)),
    Arm("bit_m", "BiT-M", (FROM_M, *_FROZEN)),
    Arm("simsiam", "SimSiam"),
    Arm("bit_s_simsiam", "BiT-S + SimSiam", (FROM_S,)),
    Arm("bit_m_simsiam", "BiT-M + SimSiam", (FROM_M,)),
    # What they leave open.
    Arm("bit_m_swapped", "BiT-M with BN, not trained on", (FROM_M, "--swap=preserve", "--epochs=0")),
    Arm("bit_m_preserved_simsiam", "BiT-M, kept in the swap, + SimSiam", (FROM_M, "--swap=preserve")),
    # The paper's figure 1: with Group Norm SimSiam has nothing that keeps the features of a batch apart.
    Arm("simsiam_gn", "SimSiam with GN", ("--norm=group",)),
    Arm("bit_m_simsiam_gn", "BiT-M + SimSiam with GN", (FROM_M, "--norm=group")),
    # And with the batch norm of its heads gone too, nothing at all.
    Arm("simsiam_no_bn", "SimSiam without any BN", ("--norm=group", "--head_norm=layer")),
    Arm("bit_m_simsiam_no_bn", "BiT-M + SimSiam without any BN", (FROM_M, "--norm=group", "--head_norm=layer")),
    Arm("byol_gn", "BYOL with GN", ("--method=byol", "--norm=group")),
    Arm("bit_m_byol_gn", "BiT-M + BYOL with GN", (FROM_M, "--method=byol", "--norm=group")),
    Arm("simsiam_lesion_pairs", "SimSiam on pairs of a lesion", ("--positives=lesion",)),
    Arm("bit_m_simsiam_lesion_pairs", "BiT-M + SimSiam on pairs of a lesion", (FROM_M, "--positives=lesion")),
    Arm("simsiam_dermatoscopy_views", "SimSiam, dermatoscopy views", ("--views=dermatoscopy",)),
    Arm(
        "bit_m_simsiam_dermatoscopy_views",
        "BiT-M + SimSiam, dermatoscopy views",
        (FROM_M, "--views=dermatoscopy"),
    ),
    # What a user would do without all this: the labels alone, and the whole network.
    Arm("bit_s_finetuned", "BiT-S, fine-tuned", (FROM_S, *_FROZEN), scored_by="finetune"),
    Arm("bit_m_finetuned", "BiT-M, fine-tuned", (FROM_M, *_FROZEN), scored_by="finetune"),
    Arm("scratch_finetuned", "random weights, fine-tuned", ("--epochs=0",), scored_by="finetune"),
)
ARMS = {arm.id: arm for arm in _TABLE}
PAPER = tuple(ARMS)[:5]
SCRATCH = "simsiam"
# (with GN, with BN): the first pair that a study has is its figure of collapse.
COLLAPSE_PAIRS = (("simsiam_gn", "simsiam"), ("bit_m_simsiam_gn", "bit_m_simsiam"))


def find_arms(names: str, extra: str | None) -> list[Arm]:
    """The arms that --arms and --extra_arms ask for, in that order.

    Args:
      names: of the table, with commas.
      extra: "NAME: --flag=value ...; NAME: ...".

    Raises:
      UserError: for a name that there is not, that stands twice, or flags that cannot be read.
    """
    listed = [name.strip() for name in names.split(",") if name.strip()]
    for name in listed:
        if name not in ARMS:
            raise UserError(
                f"--arms names {name!r}, and the strategies that come along are {', '.join(ARMS)}; others are given as "
                '--extra_arms="NAME: --flag=value ...; NAME: ...".'
            )
    arms = [ARMS[name] for name in listed] + [_own_arm(part) for part in (extra or "").split(";") if part.strip()]
    names = [arm.id for arm in arms]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"The strategy {name} is asked for twice; give each a name of its own.")
    if not arms:
        raise UserError(f"--arms asks for no strategy; pass some of {', '.join(ARMS)}.")
    return arms


def _own_arm(text: str) -> Arm:
    name, colon, given = (part.strip() for part in text.partition(":"))
    if not colon or not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise UserError(
            f'--extra_arms has the part {text.strip()!r}; each is "NAME: --flag=value ...", the name of letters, '
            "digits and _ . -, and a ; stands between two."
        )
    try:
        return Arm(name, name.replace("_", " "), tuple(shlex.split(given)))
    except ValueError as error:
        raise UserError(f"The flags of --extra_arms {name} cannot be read ({error}): {given}") from error


def compared_pairs(arms: Sequence[str], leader: str) -> list[tuple[str, str]]:
    """(a, b) of the arms whose differences a study tells.

    The leader less each other; X_simsiam less X, simsiam and X_finetuned; X_finetuned less X.
    """
    pairs = [(leader, other) for other in arms if other != leader]
    for arm in arms:
        start, is_from, _ = arm.partition("_simsiam")
        if is_from:
            pairs += [(arm, other) for other in (start, SCRATCH, f"{start}_finetuned") if other in arms]
        start, is_tuned, _ = arm.partition("_finetuned")
        if is_tuned and start in arms:
            pairs.append((arm, start))
    seen, kept = set(), []
    for pair in pairs:
        if frozenset(pair) not in seen:
            seen.add(frozenset(pair))
            kept.append(pair)
    return kept
