"""What bitkeras takes from Apache Beam, in one place: it runs tasks, on this machine or on a cluster."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from bitkeras.errors import UserError

# Beam's names. PortableRunner is any other job server, as --job_endpoint says.
RUNNERS = ("DirectRunner", "FlinkRunner", "SparkRunner", "DataflowRunner", "PortableRunner")

# What Beam puts behind the text of an error.
_SUFFIX = re.compile(r" \[while running .*", re.DOTALL)

# Seconds between two calls of what tells how far the work is.
_TELL_EVERY = 10.0
# Seconds between two looks at whether the work is done or Ctrl-C was pressed.
_LOOK_EVERY = 0.2

# Set where a task has failed or the user wants to stop: Beam would first carry out all it has handed to its threads.
_stopped = threading.Event()


def _apache_beam():
    # Beam warns of a missing package that only its own TFRecord reader needs.
    logging.disable(logging.WARNING)
    try:
        import apache_beam
        import apache_beam.options.pipeline_options
        import apache_beam.utils.shared
    except ImportError as error:
        raise UserError(
            f"apache-beam cannot be imported ({error}); install the extra, pip install -c constraints.txt -e '.[beam]'."
        ) from error
    finally:
        logging.disable(logging.NOTSET)
    return apache_beam


def run_tasks(
    tasks: Sequence[str],
    make_worker: Callable[[], Callable[[str], None]],
    *,
    runner: str = "DirectRunner",
    num_workers: int = 1,
    options: Sequence[str] = (),
    tell: Callable[[], None] = lambda: None,
) -> None:
    """Has every task done by a worker; what it makes of it, the worker writes to files.

    Args:
      tasks: what the workers are given, one at a time; in no order.
      make_worker: makes the worker of a process, once; its threads share it. Both must pickle.
      runner: of `RUNNERS`; the direct one works in this process.
      num_workers: threads of the direct runner. The work itself is TensorFlow's, which lets them run side by side.
      options: flags of Beam, such as "--flink_master=host:8081".
      tell: called now and then while the work goes on, and once after it.

    Raises:
      UserError: Beam is missing, or a worker raised it or an OSError; the other tasks are not begun then.
      Exception: a worker raised something else, as itself or as a RuntimeError with its text.
    """
    beam = _apache_beam()
    settings = _settings(beam, runner, num_workers, options)
    pipeline = beam.Pipeline(runner=_embedded(settings) if runner == "DirectRunner" else None, options=settings)
    # Elsewhere a runner may give a task that failed to the same process once more.
    do = _do_unless_stopped if runner == "DirectRunner" else _do
    work = functools.partial(do, beam.utils.shared.Shared(), make_worker)
    # Reshuffled, since what follows directly on `Create` is done by one worker.
    _ = pipeline | "tasks" >> beam.Create(list(tasks)) | beam.Reshuffle() | "work" >> beam.Map(work)
    _stopped.clear()
    try:
        _wait(lambda: pipeline.run().wait_until_finish(), tell)
    finally:
        _stopped.set()


def _do(shared, make_worker: Callable, task: str) -> None:
    shared.acquire(make_worker)(task)


def _do_unless_stopped(shared, make_worker: Callable, task: str) -> None:
    if _stopped.is_set():
        raise UserError("The work was stopped.")
    try:
        _do(shared, make_worker, task)
    except BaseException:
        _stopped.set()
        raise


def _settings(beam, runner: str, num_workers: int, options: Sequence[str]):
    direct = ("--direct_running_mode=" + ("multi_threading" if num_workers > 1 else "in_memory"),)
    ours = (f"--direct_num_workers={num_workers}", *direct) if runner == "DirectRunner" else ()
    # Of two flags of one name the last counts, so what the user passes goes before what is set here.
    flags = ["--default_sdk_harness_log_level=ERROR", *ours, *options, f"--runner={runner}"]
    return beam.options.pipeline_options.PipelineOptions(flags)


def _embedded(settings):
    """Beam's runner in this process.

    The name DirectRunner stands for several: it looks for the Prism runner first, a program that it downloads.
    """
    from apache_beam.portability.api import beam_provision_api_pb2
    from apache_beam.runners.portability.fn_api_runner import fn_runner
    from apache_beam.runners.portability.portable_runner import JobServiceHandle

    # As Beam's own switch hands them on to worker processes.
    encoded = JobServiceHandle.encode_pipeline_options(settings.get_all_options())
    provision = beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded)
    return fn_runner.FnApiRunner(provision_info=fn_runner.ExtendedProvisionInfo(provision))


def _wait(run: Callable[[], str], tell: Callable[[], None]) -> None:
    """Calls `run` in a thread, so that Ctrl-C is heard at once; Beam waits for its workers first."""
    outcome: list = []

    def finish():
        try:
            outcome.append(run())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=finish, name="pipeline", daemon=True)
    thread.start()
    told = time.monotonic()
    with _signals() as reader:
        while thread.is_alive():
            thread.join(_LOOK_EVERY)
            with contextlib.suppress(BlockingIOError):
                if signal.SIGINT in os.read(reader, 64):
                    # Runs the handler here and now.
                    signal.raise_signal(signal.SIGINT)
            if time.monotonic() - told >= _TELL_EVERY or not thread.is_alive():
                tell()
                told = time.monotonic()
    (state,) = outcome
    if isinstance(state, BaseException):
        raise _as_raised(state) from state
    if state != "DONE":
        raise UserError(f"The job ended as {state}; its runner's log says why. The same command goes on from there.")


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """The end of a pipe that gets a byte for each signal, whichever thread the system hands it to.

    Python runs a handler in the main thread alone, and one that waits hears of a signal that a thread of Beam's got
    late or, seen in one run of four, never. `signal.set_wakeup_fd` is for the main thread; elsewhere nothing comes.
    """
    reader, writer = os.pipe()
    is_main, before = threading.current_thread() is threading.main_thread(), -1
    try:
        for end in (reader, writer):
            os.set_blocking(end, False)
        if is_main:
            before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        yield reader
    finally:
        if is_main:
            signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def _as_raised(error: BaseException) -> BaseException:
    """A worker's UserError or OSError as a UserError, whatever Beam has made of it; another error as it is."""
    if isinstance(error, (UserError, OSError)):
        return UserError(_SUFFIX.sub("", str(error)))
    # Only the text: "bitkeras.errors.UserError: The shard ... [while running 'work']" below all of the worker's calls.
    for kind, text in re.findall(r"^(?:RuntimeError: )?([\w.]+): (.*)$", str(error), re.MULTILINE):
        if kind in ("bitkeras.errors.UserError", "OSError", "PermissionError", "FileNotFoundError"):
            return UserError(_SUFFIX.sub("", text))
    return error
