"""How long steps will take: from steps of the same kind that were measured, else from a stated rate."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path

from bitkeras.runs import RunFolder
from pipelines.steps import PARTLY_DONE, RECORD, TO_DO, Step, recorded, state

# Seconds of one pass of one image of 64 px through R26x0.25 on two cores (docs/results/first_run.md: 170 to 230 images
# a second in training, of 6 passes each).
SECONDS_PER_PASS = 0.0008
# Of a command's start: imports, graphs, figures; the quickstart's steps without training take about this.
START_SECONDS = 15.0
MEASURED, STATED = "measured", "stated rate"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What is known of one step: its state, the seconds that are left, and where that is from."""

    step: Step
    state: str
    seconds: float
    source: str | None


def estimates(steps: Sequence[Step], steps_dir: Path) -> list[Estimate]:
    """One a step, in their order."""
    measured = _measured(steps_dir)
    return [_estimate(step, measured) for step in steps]


def plan_lines(found: Sequence[Estimate]) -> list[str]:
    """The plan for people: a line a step, and the total."""
    width = max(len(one.step.name) for one in found)
    lines = [
        f"  {one.step.name:<{width}}  {one.step.key[:8]}  {one.state:<11}"
        + (f"  about {duration(one.seconds)}" if one.source else "")
        for one in found
    ]
    left = [one for one in found if one.source]
    by_source = {kind: sum(one.source == kind for one in left) for kind in (MEASURED, STATED)}
    lines.append(f"{len(left)} of {len(found)} steps are to be done, in about {duration(sum(s.seconds for s in left))}")
    if by_source[MEASURED]:
        lines.append(f"The time of {by_source[MEASURED]} is from steps of the same kind that were measured.")
    if by_source[STATED]:
        lines.append(
            f"The time of {by_source[STATED]} is a guess, from {SECONDS_PER_PASS * 1000:g} ms for a pass of a 64 px "
            "image through R26x0.25 on two cores; a GPU is far faster. What finished steps took replaces it."
        )
    return lines


def duration(seconds: float) -> str:
    """12 s, 5 min, 3.2 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def relative_cost(backbone: str, image_size: int) -> float:
    """Arithmetic of a pass over that of R26x0.25 at 64 px: in proportion to depth, width squared, and pixels."""
    depth, width = (float(part) for part in backbone[1:].split("x"))
    return depth / 26 * (width / 0.25) ** 2 * (image_size / 64) ** 2


def _estimate(step: Step, measured: dict[str, list[float]]) -> Estimate:
    found = state(step)
    if found not in (TO_DO, PARTLY_DONE):
        return Estimate(step, found, 0.0, None)
    left = _seconds_left(step) if found == PARTLY_DONE else None
    if left is not None:
        return Estimate(step, found, left, MEASURED)
    if step.kind in measured:
        return Estimate(step, found, step.work * statistics.median(measured[step.kind]), MEASURED)
    seconds = START_SECONDS + step.work * SECONDS_PER_PASS * step.facts.get("cost", 1.0)
    return Estimate(step, found, seconds, STATED)


def _seconds_left(step: Step) -> float | None:
    """Of a training that has epochs behind it, at the rate it had."""
    rows = [row for row in RunFolder(step.folder).metrics() if "images_per_second" in row]
    if not rows or "num_images" not in step.facts:
        return None
    rate = statistics.median(row["images_per_second"] for row in rows)
    epochs_left = step.facts["flags"]["epochs"] - rows[-1]["epoch"]
    return START_SECONDS + epochs_left * step.facts["num_images"] / rate


def _measured(steps_dir: Path) -> dict[str, list[float]]:
    """Kind -> seconds by unit of work of each finished step that was made in one go."""
    found: dict[str, list[float]] = {}
    for depth in ("*", "*/*"):
        for path in sorted(steps_dir.glob(f"{depth}/{RECORD}")):
            record = recorded(path.parent)
            if record and record.get("kind") and not record.get("resumed") and record["work"]:
                found.setdefault(record["kind"], []).append(record["seconds"] / record["work"])
    return found
