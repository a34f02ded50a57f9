"""Tasks through Beam, in this process and in others."""

import functools
import os
import socket
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from beam_workers import Noting

from bitkeras.archives import beam
from bitkeras.archives.beam import run_tasks
from bitkeras.errors import UserError

HERE = Path(__file__).parent


@pytest.fixture
def needs_beam():
    pytest.importorskip("apache_beam", reason="the extra beam is not installed")


def done(folder):
    """{task: (process, worker)}."""
    return {path.name: tuple(path.read_text().split()) for path in folder.iterdir()}


@pytest.mark.parametrize("num_workers", [1, 3])
def test_every_task_is_done_by_the_worker_that_the_threads_of_a_process_share(num_workers, tmp_path, needs_beam):
    tasks, told = [f"t{n}" for n in range(7)], []
    make = functools.partial(Noting, str(tmp_path))
    run_tasks(tasks, make, num_workers=num_workers, tell=lambda: told.append(len(done(tmp_path))))
    found = done(tmp_path)
    assert set(found) == set(tasks) and {process for process, _ in found.values()} == {str(os.getpid())}
    assert len({worker for _, worker in found.values()}) == 1
    assert told[-1] == 7


@pytest.mark.parametrize(("task", "told"), [("user", "The shard x cannot be written."), ("disk", "No space left")])
@pytest.mark.parametrize("num_workers", [1, 2])
def test_what_a_user_must_read_comes_through_in_a_sentence(task, told, num_workers, tmp_path, needs_beam):
    with pytest.raises(UserError, match=told) as raised:
        run_tasks([task], functools.partial(Noting, str(tmp_path)), num_workers=num_workers)
    assert "\n" not in str(raised.value) and "while running" not in str(raised.value)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_defect_stays_one(num_workers, tmp_path, needs_beam):
    with pytest.raises((KeyError, RuntimeError), match="a defect"):
        run_tasks(["defect"], functools.partial(Noting, str(tmp_path)), num_workers=num_workers)


def test_after_a_failure_no_other_task_is_begun(tmp_path, needs_beam):
    tasks = ["user", *(f"t{n}" for n in range(80))]
    with pytest.raises(UserError, match="cannot be written"):
        run_tasks(tasks, functools.partial(Noting, str(tmp_path), seconds=0.2), num_workers=2)
    # The other thread may have done some while the first failed, more on a busy machine.
    assert len(done(tmp_path)) < 60
    run_tasks(["again"], functools.partial(Noting, str(tmp_path)))
    assert "again" in done(tmp_path)


def test_a_missing_beam_is_told_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(UserError, match=r"apache-beam cannot be imported .*'\.\[beam\]'"):
        run_tasks(["t"], lambda: None)


def test_flags_of_beam_are_passed_on_and_ours_stay(needs_beam):
    import apache_beam
    from apache_beam.options.pipeline_options import DirectOptions, FlinkRunnerOptions, StandardOptions

    settings = beam._settings(apache_beam, "FlinkRunner", 2, ["--flink_master=host:8081", "--parallelism=8"])
    assert settings.view_as(FlinkRunnerOptions).flink_master == "host:8081"
    assert settings.view_as(StandardOptions).runner == "FlinkRunner"
    settings = beam._settings(apache_beam, "DirectRunner", 2, ["--direct_running_mode=multi_processing"])
    assert settings.view_as(DirectOptions).direct_running_mode == "multi_processing"
    assert settings.view_as(DirectOptions).direct_num_workers == 2


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("localhost", 0))
        return asked.getsockname()[1]


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket() as knock:
            if not knock.connect_ex(("localhost", port)):
                return
        time.sleep(0.5)


@pytest.mark.slow
def test_workers_of_a_pool_do_the_tasks_as_those_of_a_cluster_do(tmp_path, needs_beam):
    """The portable runner, whose protocol Flink and Spark speak, with Beam's own job server and a pool of workers."""
    port = _free_port()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    pool = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    process = subprocess.Popen(pool, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        options = ["--job_endpoint=embed", "--environment_type=EXTERNAL", f"--environment_config=localhost:{port}"]
        work = functools.partial(Noting, str(tmp_path))
        run_tasks(["a", "b", "c"], work, runner="PortableRunner", options=options)
        found = done(tmp_path)
        assert set(found) == {"a", "b", "c"} and str(os.getpid()) not in {process for process, _ in found.values()}
        with pytest.raises(UserError, match="The shard x cannot be written."):
            run_tasks(["user"], work, runner="PortableRunner", options=options)
    finally:
        process.terminate()
        process.wait()


def test_a_runner_may_give_a_task_that_failed_to_the_same_process_again(tmp_path, monkeypatch):
    """As those of clusters do; what went wrong once may go well then."""
    worker = Noting(str(tmp_path))
    shared = types.SimpleNamespace(acquire=lambda make_worker: worker)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            beam._do(shared, None, "disk")
    beam._do(shared, None, "t0")
    assert "t0" in done(tmp_path)
