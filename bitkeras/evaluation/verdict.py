"""What the numbers of the epochs so far say about a self-supervised run, in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

HEALTHY, NOT_OPTIMISING = "healthy", "not optimising"
DIMENSIONAL_COLLAPSE, COMPLETE_COLLAPSE = "dimensional collapse", "complete collapse"
# In the order of their codes: the higher, the worse.
VERDICTS = (HEALTHY, NOT_OPTIMISING, DIMENSIONAL_COLLAPSE, COMPLETE_COLLAPSE)

REMEDIES = {
    HEALTHY: "",
    NOT_OPTIMISING: "look at the view pairs in TensorBoard and change --base_lr, down where the loss swings, up where "
    "it stands still",
    DIMENSIONAL_COLLAPSE: "lower --base_lr tenfold, or pass --method=vicreg, whose loss keeps the dimensions apart",
    COMPLETE_COLLAPSE: "lower --base_lr tenfold, and in a method of your own see that the target's gradient is stopped "
    "and that the predictor learns",
}

# The limits. "Healthy" are 45 recorded SimSiam runs of R26x0.25 on HAM10000, CIFAR-10 and phantoms, from random and
# from BiT weights, 810 epochs in all; the extremes are those among them. "Broken" are the same network on HAM10000
# without stop-gradient, without predictor, and with 100x the rate, for 80 to 140 steps.

# Mean pairwise cosine; healthy: at most 0.88 after an epoch of few steps, 0.70 in longer runs.
POINT_COSINE = 0.99
# And its distance from 1 a tenth of that before training: random and GN networks start at 0.97 and above.
POINT_COSINE_SHARE = 0.1
# Deviations of 2^-8 of the length are what bfloat16 rounds off, and the cosine is then 1 - 2^-16: such features are
# one and the same whatever they were before training.
ROUNDED_COSINE = 1 - 2**-16
# Std of the l2-normalised projections times sqrt(E), in all and as a share of the best epoch's. Healthy at the end: at
# least 0.66. Broken: 0.07, 0.41, 0.15, while the features still looked well (mean cosine 0.67 to 0.86, RankMe 31 to
# 100 of 426). Before training it says nothing, since the BN statistics are not set.
POINT_SPREAD, POINT_SPREAD_SHARE = 0.1, 0.5
PROJECTOR_SPREAD, PROJECTOR_SPREAD_SHARE = 0.5, 0.6

# RankMe of the features over the best of the epochs so far; healthy: at least 0.31 (raw BiT kernels at 2x the
# published rate, from 124 to 38 while kNN stayed where it was).
FEATURE_RANK_SHARE = 0.2
# Fewer directions than a picture has colours; healthy: at least 6.8, with 12 images.
FEATURE_RANK = 3.0
# RankMe of the projections, likewise. Healthy at the end: at least 24 of 256 images; on textures with some ten factors
# SimCLR and BYOL stay at 7, with a std that stays too. Broken: 9.5, 9.8, 3.1.
PROJECTOR_RANK, PROJECTOR_RANK_SHARE = 4.0, 0.5
# The limit of the rank while the std is below so much of the best one: the two sink together.
SINKING_RANK, SINKING_SHARE = 10.0, 0.8

# Epochs behind the warm-up before the loss is judged, and how many of the last ones count.
SETTLING_EPOCHS, WINDOW = 5, 3
# What it must have gained since the first epoch, in units of the loss or of the first one where that is above 1.
# Healthy: at least 0.044 in the fifth epoch (phantoms, batches of 64).
LOSS_GAIN = 0.01
# Share of the gain that may be lost again; healthy: at most 0.04.
LOSS_LOST = 0.5


@dataclasses.dataclass(frozen=True)
class Verdict:
    """How a run stands.

    Attributes:
      name: one of `VERDICTS`.
      evidence: the numbers that led to it and the limits they crossed.
      remedy: what to do, a clause; empty for a healthy run.
    """

    name: str
    evidence: str
    remedy: str

    @property
    def code(self) -> int:
        """The place in `VERDICTS`, for a chart."""
        return VERDICTS.index(self.name)


def verdict(rows: Sequence[Mapping], *, warmup_epochs: int = 0) -> Verdict:
    """The verdict on the last of `rows`.

    Args:
      rows: one mapping an epoch with what is known of `epoch` (1 is the first; 0 is before training), `loss`,
        `verdict` (its name) and the figures of `evaluation.collapse`; finite, in the order of training.
      warmup_epochs: over which the learning rate rises from 0.

    Returns:
      The worst verdict that anything speaks for. Before training everything is healthy: a network that starts with
      a mean pairwise cosine of 0.97 is not collapsed by that.
    """
    last = rows[-1] if rows else {}
    if not last.get("epoch"):
        return Verdict(HEALTHY, "nothing is trained yet", REMEDIES[HEALTHY])
    start = rows[0] if rows[0].get("epoch") == 0 else {}
    found = {
        COMPLETE_COLLAPSE: [_one_point(last, start), _one_projection(last, rows)],
        DIMENSIONAL_COLLAPSE: [_few_directions(last, rows), _few_projected(last, rows)],
        NOT_OPTIMISING: [_no_gain([row for row in rows if _is_yardstick(row)], warmup_epochs)],
    }
    for name, sentences in found.items():
        if any(sentences):
            return Verdict(name, "; ".join(filter(None, sentences)), REMEDIES[name])
    return Verdict(HEALTHY, _summary(last), REMEDIES[HEALTHY])


def _one_point(last: Mapping, start: Mapping) -> str:
    cosine, before = last.get("mean_pairwise_cosine", 0.0), start.get("mean_pairwise_cosine", 0.0)
    told = f"the features of different images have a mean cosine of {cosine:.6f}"
    if cosine > ROUNDED_COSINE:
        return f"{told}, above {ROUNDED_COSINE:.6f}, where bfloat16 cannot tell them apart"
    if cosine > POINT_COSINE and 1 - cosine < POINT_COSINE_SHARE * (1 - before):
        return f"{told}, above {POINT_COSINE}, and {before:.4f} before training"
    return ""


def _one_projection(last: Mapping, rows: Sequence[Mapping]) -> str:
    return _fallen(last, rows, "projector_spread", POINT_SPREAD, POINT_SPREAD_SHARE)


def _few_directions(last: Mapping, rows: Sequence[Mapping]) -> str:
    rank, best = last.get("rankme"), _best(rows, "rankme")
    if rank is None or rank >= max(FEATURE_RANK, FEATURE_RANK_SHARE * best):
        return ""
    limit = f"a share of {FEATURE_RANK_SHARE} of the {best:.1f} there were, or {FEATURE_RANK:.0f}"
    return f"the features' RankMe is {rank:.1f}{_of_images(last)}, below {limit}"


def _few_projected(last: Mapping, rows: Sequence[Mapping]) -> str:
    sinking = last.get("projector_spread", 1.0) < SINKING_SHARE * _best(rows, "projector_spread")
    found = [
        _fallen(last, rows, "projector_spread", PROJECTOR_SPREAD, PROJECTOR_SPREAD_SHARE),
        _fallen(last, rows, "projector_rankme", SINKING_RANK if sinking else PROJECTOR_RANK, PROJECTOR_RANK_SHARE),
    ]
    return "; ".join(filter(None, found))


def _fallen(last: Mapping, rows: Sequence[Mapping], name: str, limit: float, share: float) -> str:
    """A sentence where the last value is below `limit` and below `share` of the best one."""
    value, best = last.get(name), _best(rows, name)
    if value is None or value >= min(limit, share * best):
        return ""
    what = {"projector_spread": "std", "projector_rankme": "RankMe"}[name]
    return f"the projections' {what} is {value:.3g}, below {limit:g} and below {share:g} of the {best:.3g} there were"


def _no_gain(rows: Sequence[Mapping], warmup_epochs: int) -> str:
    losses = [row["loss"] for row in rows if row["epoch"] > 0]
    if len(losses) < max(WINDOW, SETTLING_EPOCHS + warmup_epochs):
        return ""
    first, best, now = losses[0], min(losses), min(losses[-WINDOW:])
    least = LOSS_GAIN * max(1.0, abs(first))
    if now > first - least:
        return f"the loss is {now:.4f} at best in {WINDOW} epochs, not {least:.2g} below the {first:.4f} of the first"
    if now > best + LOSS_LOST * (first - best):
        gained = f"the {first - best:.4f} gained since the first epoch"
        return f"the loss is {now:.4f} at best in {WINDOW} epochs, with more than {LOSS_LOST} of {gained} lost again"
    return ""


def _is_yardstick(row: Mapping) -> bool:
    """False for a row that cannot be measured by: a collapse has the best of all losses."""
    return "loss" in row and row.get("verdict") not in (DIMENSIONAL_COLLAPSE, COMPLETE_COLLAPSE)


def _best(rows: Sequence[Mapping], name: str) -> float:
    return max((row[name] for row in rows if name in row), default=0.0)


def _of_images(row: Mapping) -> str:
    return f" of {row['num_images']:.0f} images" if "num_images" in row else ""


def _summary(row: Mapping) -> str:
    names = {"loss": "loss", "mean_pairwise_cosine": "mean cosine", "rankme": "RankMe"}
    return ", ".join(f"{told} {row[name]:.4g}" for name, told in names.items() if name in row)
