"""Learning rates: pure functions of the batch size and the step."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def scaled_lr(base_lr: float, batch_size: int) -> float:
    """`base_lr` is per 256 images (Goyal et al. 2017); the result is what the optimizer gets."""
    return base_lr * batch_size / 256


def warmup_cosine(
    lr: float, *, num_steps: int, warmup_steps: int = 0
) -> tf.keras.optimizers.schedules.LearningRateSchedule:
    """Linear from 0 to `lr` over `warmup_steps`, then half a cosine down to 0 at `num_steps`."""
    if warmup_steps == 0:
        return tf.keras.optimizers.schedules.CosineDecay(lr, num_steps)
    return tf.keras.optimizers.schedules.CosineDecay(
        0.0, num_steps - warmup_steps, warmup_target=lr, warmup_steps=warmup_steps
    )


def warmup_staircase(
    lr: float, *, num_steps: int, warmup_steps: int = 0
) -> tf.keras.optimizers.schedules.LearningRateSchedule:
    """Linear from 0 to `lr`, then a tenth of it from each third of `num_steps`, and at 8/9 of them (BiT, section 3.2).

    BiT writes it for 90 epochs of ImageNet: steps at 30, 60 and 80.
    """
    steps = [round(num_steps * share) for share in (1 / 3, 2 / 3, 8 / 9)]
    staircase = tf.keras.optimizers.schedules.PiecewiseConstantDecay(steps, [lr, lr / 10, lr / 100, lr / 1000])
    return staircase if warmup_steps == 0 else _WarmUp(staircase, lr, warmup_steps)


class _WarmUp(tf.keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, after, lr: float, warmup_steps: int):
        self.after, self.lr, self.warmup_steps = after, lr, warmup_steps

    def __call__(self, step):
        share = tf.cast(step, tf.float32) / self.warmup_steps
        return tf.where(share < 1.0, self.lr * share, self.after(step))


SCHEDULES = {"cosine": warmup_cosine, "staircase": warmup_staircase}


def undo(schedule: Callable[[tf.Tensor], tf.Tensor], lr: float) -> Callable[[tf.Tensor], tf.Tensor]:
    """Step -> the factor that brings the rate of `schedule` back to `lr`; 0 where the schedule is 0."""
    return lambda step: tf.math.divide_no_nan(lr, schedule(step))
