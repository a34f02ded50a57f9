"""What is done about a collapse: told, ended, or taken back."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

import tensorflow as tf

from bitkeras.errors import UserError
from bitkeras.evaluation.verdict import HEALTHY, Verdict, verdict

ON_COLLAPSE = ("warn", "stop", "rollback")
# A rate 100x too high is back at the right one after two rollbacks; the third is for what is something else.
RATE_STEP, MAX_ROLLBACKS = 0.1, 3


class CollapseSentinel(tf.keras.callbacks.Callback):
    """Adds `verdict` to an epoch's numbers, and `rollbacks` where there may be some; acts on one that stays bad.

    It stands behind what measures and before what writes the numbers down; its `action` stands behind what writes
    them down and before the checkpoint, so that the epoch is on record and no checkpoint of it is made.

    Args:
      on_collapse: "warn" says each bad verdict once, until the run is healthy again; "stop" ends the run;
        "rollback" takes the weights of the last healthy epoch, lowers the learning rate by `RATE_STEP`, and stops
        when that has been done `MAX_ROLLBACKS` times.
      patience: bad epochs in a row before any of that is done.
      rows: what was written down before, the epoch before training first.
      warmup_epochs: over which the learning rate rises from 0.
      rollback: epoch -> epoch. It must bring back weights, BN statistics, the optimizer's slots and its loss scale
        from the checkpoint at the end of that epoch, or of the last one before it that is kept, and return which it
        was. The step, the optimizer's `iterations`, the data and the epoch go on from where they are: the state goes
        back, the clock does not, so a run has as many epochs as it was asked for and no images twice.
      rate_factor: the variable of `throttled`, which is 1 at the start; its checkpoints carry the count of rollbacks.
      say: told what is found and done.
    """

    def __init__(
        self,
        *,
        on_collapse: str = "warn",
        patience: int = 2,
        rows: Iterable[Mapping] = (),
        warmup_epochs: int = 0,
        rollback: Callable[[int], int] | None = None,
        rate_factor: tf.Variable | None = None,
        say: Callable[[str], None] = print,
    ):
        super().__init__()
        if on_collapse not in ON_COLLAPSE:
            raise UserError(f"on_collapse is {on_collapse}; use one of {', '.join(ON_COLLAPSE)}.")
        if on_collapse == "rollback" and (rollback is None or rate_factor is None):
            raise ValueError("on_collapse=rollback needs rollback and rate_factor")
        self.on_collapse, self.patience, self.warmup_epochs = on_collapse, patience, warmup_epochs
        self.rollback, self.rate_factor, self.say = rollback, rate_factor, say
        self.action = tf.keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: self._act(epoch + 1))
        self.rows, self.told = [], set()
        self.bad_epochs, self.last_healthy = 0, 0
        rollbacks = 0
        for row in rows:
            rollbacks = self._forget_if_more(rollbacks, row.get("rollbacks", 0))
            self._judge(row)
        # The last epoch's own is in no row yet.
        self._forget_if_more(rollbacks, self.rollbacks)

    @property
    def rollbacks(self) -> int:
        """How many have been made, with those before the run was stopped."""
        # Under several replicas the variable is one of each, and those are no number.
        return 0 if self.rate_factor is None else round(math.log(float(self.rate_factor.read_value()), RATE_STEP))

    def on_epoch_end(self, epoch, logs=None):
        """Judges the epoch: a `Verdict`, and the number of rollbacks before it."""
        if self.on_collapse == "rollback":
            logs["rollbacks"] = self.rollbacks
        logs["verdict"] = self._judge({"epoch": epoch + 1, **logs})

    def _forget_if_more(self, before: int, rollbacks: int) -> int:
        """A rollback behind the last row ended its bad epochs, and made it one to go back to; returns the new count."""
        if rollbacks > before:
            self.bad_epochs, self.last_healthy = 0, self.rows[-1]["epoch"]
        return rollbacks

    def _judge(self, row: Mapping) -> Verdict:
        self.rows.append(row)
        self.verdict = verdict(self.rows, warmup_epochs=self.warmup_epochs)
        self.rows[-1] = {**row, "verdict": self.verdict.name}
        if self.verdict.name == HEALTHY:
            self.bad_epochs, self.last_healthy = 0, row["epoch"]
        else:
            self.bad_epochs += 1
        return self.verdict

    def _act(self, epoch: int) -> None:
        if self.bad_epochs >= self.patience:
            {"warn": self._warn, "stop": self._stop, "rollback": self._roll_back}[self.on_collapse](epoch)
        elif self.told and not self.bad_epochs:
            self.told.clear()
            self.say(f"epoch {epoch}: {HEALTHY} again ({self.verdict.evidence})")

    def _warn(self, epoch: int) -> None:
        if self.verdict.name not in self.told:
            self.told.add(self.verdict.name)
            self.say(f"warning: epoch {epoch}: {self.verdict.name}: {self.verdict.evidence}; {self.verdict.remedy}")

    def _stop(self, epoch: int, tried: str = "") -> None:
        kept = f"the checkpoint of epoch {self.last_healthy} is the last healthy one"
        kept = kept if self.last_healthy else "no epoch was healthy"
        found = f"{self.verdict.name} in {self.bad_epochs} epochs in a row ({self.verdict.evidence})"
        raise UserError(f"Epoch {epoch} ends the run with {found}; {tried}{kept}. {_capital(self.verdict.remedy)}.")

    def _roll_back(self, epoch: int) -> None:
        done = self.rollbacks
        if not self.last_healthy or done >= MAX_ROLLBACKS:
            self._stop(epoch, f"{done} rollbacks have been made, each with a tenth of the rate; " if done else "")
        restored = self.rollback(self.last_healthy)
        # Behind the restoring: a checkpoint holds the factor of its own time.
        factor = RATE_STEP ** (done + 1)
        self.rate_factor.assign(factor)
        # The checkpoint of this epoch will hold what was brought back.
        self.bad_epochs, self.last_healthy = 0, epoch
        self.say(
            f"epoch {epoch}: {self.verdict.name}: {self.verdict.evidence}; back to the weights of epoch {restored}, "
            f"with {factor:g} of the learning rate (rollback {done + 1} of {MAX_ROLLBACKS})"
        )


class _Throttled(tf.keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, schedule: Callable[[tf.Tensor], tf.Tensor], factor: tf.Variable):
        self.schedule, self.factor = schedule, factor

    def __call__(self, step):
        return self.schedule(step) * self.factor


def throttled(schedule: Callable[[tf.Tensor], tf.Tensor], factor: tf.Variable) -> _Throttled:
    """`schedule` times a float32 variable, which a compiled training step reads anew in each step."""
    return _Throttled(schedule, factor)


def _capital(clause: str) -> str:
    return clause[:1].upper() + clause[1:]
