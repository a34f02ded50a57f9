"""Runs the steps of a plan, beside other processes that may run the same ones."""

from __future__ import annotations

import contextlib
import fcntl
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bitkeras.errors import Interrupted, UserError, first_line
from pipelines.steps import Step, finished_record, make

DONE, FAILED, LEFT_OUT = "done", "failed", "left out"


def run_steps(
    steps: Sequence[Step],
    *,
    locks_dir: Path,
    keep_going: bool = False,
    say: Callable[[str], None] = print,
    poll_seconds: float = 2.0,
) -> dict[str, str]:
    """Makes what is not done yet, each step after its inputs.

    A step that another process is making is passed over, and waited for when nothing else is left.

    Args:
      steps: in any order; inputs that are not among them are done already.
      locks_dir: the same for all processes that share steps.
      keep_going: after a failure, go on with what does not need the failed step.
      say: told what happens.
      poll_seconds: between looks at what another process is making.

    Returns:
      Step's name -> `DONE`, `FAILED` or `LEFT_OUT` (an input failed).

    Raises:
      UserError: a step failed and `keep_going` is False; other errors of a step pass through.
    """
    planned = {step.name for step in steps}
    outcomes = {one.name: DONE for step in steps for one in step.inputs if one.name not in planned}
    left, is_waiting = list(steps), False
    while left:
        found = {}
        for step in left:
            outcome = _attempt(step, {**outcomes, **found}, locks_dir, keep_going, say)
            if outcome:
                found[step.name] = outcome
        outcomes.update(found)
        left = [step for step in left if step.name not in found]
        if left and not found:
            if not is_waiting:
                say(f"waiting for another process that is at {left[0].name}")
            time.sleep(poll_seconds)
        is_waiting = bool(left and not found)
    return {name: outcome for name, outcome in outcomes.items() if name in planned}


def _attempt(step: Step, outcomes: dict, locks_dir: Path, keep_going: bool, say: Callable[[str], None]) -> str | None:
    """What became of a step; None where it cannot be made yet."""
    of_inputs = [outcomes.get(one.name) for one in step.inputs]
    if any(outcome in (FAILED, LEFT_OUT) for outcome in of_inputs):
        say(f"step {step.name} is left out: it needs one that failed")
        return LEFT_OUT
    if not all(of_inputs):
        return None
    if finished_record(step) is not None:
        return DONE
    with locked(step, locks_dir) as is_free:
        if not is_free:
            return None
        # Another process may have made it since.
        return DONE if finished_record(step) is not None else _made(step, keep_going, say)


def _made(step: Step, keep_going: bool, say: Callable[[str], None]) -> str:
    say(f"\nstep {step.name}" + (f"\n$ {step.line}" if step.line else ""))
    try:
        make(step)
    except Interrupted:
        raise
    except Exception as error:
        if keep_going:
            if not isinstance(error, UserError):
                traceback.print_exc()
            say(f"step {step.name} failed: {first_line(error)}")
            return FAILED
        if isinstance(error, UserError):
            raise UserError(f"The step {step.name} failed: {error}") from error
        raise
    return DONE


@contextlib.contextmanager
def locked(step: Step, locks_dir: Path) -> Iterator[bool]:
    """Holds a step, and its inputs against being made anew meanwhile; yields False where another process holds one.

    The system lets go of a lock when its process ends, however it ends.
    """
    locks_dir.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        wanted = [(step, fcntl.LOCK_EX), *((one, fcntl.LOCK_SH) for one in step.inputs)]
        try:
            for one, how in wanted:
                # Never deleted: a lock on a file that has lost its name excludes nobody.
                file = held.enter_context(open(locks_dir / f"{one.key[:16]}.lock", "a"))
                fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
