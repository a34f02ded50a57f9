"""Steps are made once, whatever is killed, damaged, shared or failing; on steps that write one line."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from made_steps import chain
from small_road import ROOT

from bitkeras.errors import Interrupted, UserError
from pipelines import step_times
from pipelines.step_runner import DONE, FAILED, LEFT_OUT, locked, run_steps
from pipelines.steps import RECORD, Step, finished_record, state, step_key


def run(folder, **options):
    """(what was made, outcomes, steps)."""
    diary, more = [], {name: options.pop(name) for name in ("keep_going",) if name in options}
    steps = chain(folder, diary, **options)
    outcomes = run_steps(steps, locks_dir=folder / ".locks", say=lambda line: None, poll_seconds=0.01, **more)
    return diary, outcomes, steps


def test_everything_is_made_once_in_the_order_of_need(tmp_path):
    diary, outcomes, steps = run(tmp_path)
    assert diary == ["a", "b", "c", "d"] and set(outcomes.values()) == {DONE}
    assert (steps[3].folder / "result.txt").read_text() == "d(b(a())c(a()))"
    assert [state(step) for step in steps] == ["done"] * 4
    assert run(tmp_path)[0] == []


def test_the_order_of_the_list_does_not_matter(tmp_path):
    diary = []
    steps = chain(tmp_path, diary)
    run_steps(steps[::-1], locks_dir=tmp_path / ".locks", say=lambda line: None)
    assert diary[0] == "a" and diary[-1] == "d"


@pytest.mark.parametrize("damaged", ["a", "b", "d"])
@pytest.mark.parametrize("how", ["changed", "gone", "record"])
def test_a_damaged_result_is_made_again_with_what_came_of_it(tmp_path, damaged, how):
    _, _, steps = run(tmp_path)
    place = next(step.folder for step in steps if step.name == damaged)
    file = place / (RECORD if how == "record" else "result.txt")
    file.unlink() if how == "gone" else file.write_text("no longer what it was")
    diary, outcomes, steps = run(tmp_path)
    # The result is the same as before, so what was made of it still holds.
    assert diary == [damaged] and set(outcomes.values()) == {DONE}
    assert (steps[3].folder / "result.txt").read_text() == "d(b(a())c(a()))"


def test_killed_while_a_damaged_result_is_taken_away_nothing_of_it_is_used(tmp_path, monkeypatch):
    _, _, steps = run(tmp_path)
    (steps[0].folder / "result.txt").write_text("no longer what it was")

    def kill(*_, ignore_errors=False):
        if not ignore_errors:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", kill)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    diary, _, steps = run(tmp_path)
    assert diary == ["a"] and (steps[0].folder / "result.txt").read_text() == "a()"
    (steps[0].folder / "result.txt").write_text("and again")
    assert run(tmp_path)[0] == ["a"] and not list(tmp_path.glob(".*.damaged"))


def test_a_step_whose_input_came_out_otherwise_is_made_again(tmp_path):
    _, _, steps = run(tmp_path)
    (steps[0].folder / "result.txt").unlink()
    seen = []

    def otherwise():
        steps[0].folder.mkdir(parents=True, exist_ok=True)
        (steps[0].folder / "result.txt").write_text(f"another a {len(seen)}")

    diary, _, steps = run(tmp_path, a=otherwise)
    assert diary == ["b", "c", "d"]
    assert (steps[3].folder / "result.txt").read_text() == "d(b(another a 0)c(another a 0))"


def test_another_flag_makes_only_what_depends_on_it_and_keeps_the_rest(tmp_path):
    run(tmp_path)
    diary, _, _ = run(tmp_path, rate=0.2)
    assert diary == ["b", "c", "d"]
    assert run(tmp_path)[0] == []


def test_a_key_changes_with_each_of_its_parts_and_with_nothing_else():
    base = {"flags": {"rate": 0.1, "epochs": 0}, "data": "x"}
    key = step_key("probe", **base)
    assert key == step_key("probe", flags={"epochs": 0, "rate": 0.1, "new": None, "off": False}, data="x")
    others = [
        step_key("pretrain", **base),
        step_key("probe", flags={"rate": 0.1}, data="x"),
        step_key("probe", flags=base["flags"], data="y"),
    ]
    assert len({key, *others}) == 4


def test_a_failure_stops_and_what_was_made_is_kept(tmp_path):
    with pytest.raises(ValueError, match="b cannot be made"):
        run(tmp_path, fail="b")
    assert run(tmp_path)[0] == ["b", "c", "d"]


def test_keep_going_makes_what_does_not_need_the_failed_step(tmp_path, capfd):
    diary, outcomes, _ = run(tmp_path, fail="b", keep_going=True)
    assert diary == ["a", "b", "c"] and outcomes == {"a": DONE, "b": FAILED, "c": DONE, "d": LEFT_OUT}
    assert "b cannot be made" in capfd.readouterr().err
    assert run(tmp_path)[0] == ["b", "d"]


def test_being_asked_to_stop_is_no_failure(tmp_path):
    def stop():
        raise Interrupted("stopped", exit_status=143)

    with pytest.raises(Interrupted):
        run(tmp_path, b=stop, keep_going=True)


def test_a_step_that_leaves_no_output_has_failed(tmp_path):
    with pytest.raises(UserError, match="step b failed: .* left no result.txt"):
        run(tmp_path, b=lambda: None)


def test_a_killed_step_finds_its_folder_as_it_left_it(tmp_path):
    diary = []
    steps = chain(tmp_path, diary)
    steps[0].folder.mkdir(parents=True)
    (steps[0].folder / "half").write_text("half")
    (steps[0].folder / ".config-123.json").write_text("{")
    assert state(steps[0]) == "partly done" and state(steps[1]) == "to do"
    run(tmp_path)
    record = json.loads((steps[0].folder / RECORD).read_text())
    assert record["resumed"] and (steps[0].folder / "half").is_file()
    assert not list(steps[0].folder.glob(".config*"))
    assert {"key", "outputs", "inputs", "seconds", "versions", "commit", "line"} <= set(record)


def test_what_another_is_making_is_passed_over_and_waited_for(tmp_path):
    """b is held by somebody else: c is made meanwhile, and d when b is there."""
    said, diary = [], []
    steps = chain(tmp_path, diary)
    run_steps(steps[:1], locks_dir=tmp_path / ".locks", say=said.append)
    with locked(steps[1], tmp_path / ".locks") as is_free:
        assert is_free
        how = {"locks_dir": tmp_path / ".locks", "say": said.append, "poll_seconds": 0.01}
        other = threading.Thread(target=run_steps, args=(steps,), kwargs=how)
        other.start()
        while not any("waiting" in line for line in said):
            time.sleep(0.01)
        assert diary == ["a", "c"]
    other.join(timeout=30)
    assert diary == ["a", "c", "b", "d"] and finished_record(steps[3])


def test_an_input_cannot_be_made_anew_while_it_is_read(tmp_path):
    steps = chain(tmp_path, [])
    with locked(steps[1], tmp_path / "locks") as first, locked(steps[2], tmp_path / "locks") as second:
        # Two read a at once, and nobody makes it.
        with locked(steps[0], tmp_path / "locks") as third:
            assert (first, second, third) == (True, True, False)
    with locked(steps[0], tmp_path / "locks") as later:
        assert later


TWO = """
import sys, time
from pathlib import Path
from made_steps import chain
from pipelines.step_runner import run_steps
folder, diary = Path(sys.argv[1]), []
class Slow(list):
    def append(self, name):
        super().append(name)
        time.sleep(0.3)
        if name == sys.argv[2]:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
diary = Slow()
run_steps(chain(folder, diary), locks_dir=folder / ".locks", say=lambda line: None, poll_seconds=0.05)
print(",".join(diary))
"""


def start(folder, die_in="-"):
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "pipelines")])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = [sys.executable, "-c", TWO, str(folder), die_in]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_of_two_processes_each_step_is_made_by_one_and_a_killed_one_lets_go(tmp_path):
    processes = [start(tmp_path), start(tmp_path)]
    made = [name for process in processes for name in process.communicate(timeout=120)[0].strip().split(",") if name]
    assert sorted(made) == ["a", "b", "c", "d"]
    killed = start(tmp_path / "other", die_in="c")
    killed.communicate(timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert run(tmp_path / "other")[0] == ["c", "d"]


def test_the_time_that_is_left_is_that_of_measured_steps_of_the_kind(tmp_path):
    _, _, steps = run(tmp_path)
    for step in steps[:2]:
        record = json.loads((step.folder / RECORD).read_text())
        (step.folder / RECORD).write_text(json.dumps({**record, "seconds": 8.0}))
    (steps[3].folder / "result.txt").unlink()
    found = step_times.estimates(steps, tmp_path)
    assert [one.state for one in found] == ["done"] * 3 + ["to do"]
    # Two of 8 s and two of next to nothing, of the work 2 each: the median is half of it.
    assert found[3].seconds == pytest.approx(4.0, abs=0.1) and found[3].source == step_times.MEASURED
    lines = step_times.plan_lines(found)
    assert lines[0].split()[2] == "done" and "to do" in lines[3] and "about 4 s" in lines[3]
    assert "1 of 4 steps are to be done, in about 4 s" in lines[4] and "were measured" in lines[5]


def test_without_measured_steps_a_stated_rate_is_named(tmp_path):
    found = step_times.estimates(chain(tmp_path, []), tmp_path)
    assert {one.source for one in found} == {step_times.STATED}
    assert "is a guess, from 0.8 ms" in step_times.plan_lines(found)[-1]


def test_the_cost_of_a_pass_grows_as_its_arithmetic():
    assert step_times.relative_cost("R26x0.25", 64) == 1
    # Twice the side is four times the pixels; four times the width 16 times the products.
    assert step_times.relative_cost("R26x1", 128) == 64
    assert [step_times.duration(seconds) for seconds in (12, 600, 7200)] == ["12 s", "10 min", "2.0 h"]


def test_of_a_training_half_done_the_rest_is_told_at_its_own_rate(tmp_path):
    facts = {"flags": {"epochs": 10}, "num_images": 100}
    step = Step("a", "0123456789", tmp_path / "a-01234567", ("result.txt",), lambda: None, facts=facts)
    step.folder.mkdir()
    rows = [{"epoch": epoch, "images_per_second": rate} for epoch, rate in ((1, 5.0), (2, 50.0), (3, 50.0), (4, 60.0))]
    (step.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [{"epoch": 0}, *rows]))
    (found,) = step_times.estimates([step], tmp_path)
    # Six epochs of two seconds, and a start.
    assert (found.state, found.source, found.seconds) == ("partly done", "measured", 12 + step_times.START_SECONDS)
