"""Steps that take no time, and a diary of what was made."""

from __future__ import annotations

from pathlib import Path

from pipelines.steps import Step, step_key


def chain(folder: Path, diary: list[str], *, fail=(), rate: float = 0.1, **makes) -> list[Step]:
    """a -> b, a -> c, (b, c) -> d; `fail` names those that raise, and `makes` replaces what some do.

    Each writes its name and what its inputs hold.
    """
    steps: dict[str, Step] = {}
    for name, needed in {"a": "", "b": "a", "c": "a", "d": "bc"}.items():
        inputs = tuple(steps[one] for one in needed)
        key = step_key(name, flags={"rate": rate if name != "a" else 1}, inputs=inputs, data="images")
        place = folder / f"{name}-{key[:8]}"

        def make(name=name, place=place, inputs=inputs):
            diary.append(name)
            if name in fail:
                raise ValueError(f"{name} cannot be made")
            place.mkdir(parents=True, exist_ok=True)
            held = "".join((one.folder / "result.txt").read_text() for one in inputs)
            (place / "result.txt").write_text(f"{name}({held})")

        do = makes.get(name, make)
        steps[name] = Step(name, key, place, ("result.txt",), do, inputs=inputs, kind="fake", work=2.0)
    return list(steps.values())
