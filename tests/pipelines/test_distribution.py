"""Several replicas and several processes against one of each, with the same batches."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from small_road import ROOT, pretrain_flags, run_process

from bitkeras.data.batches import WHOLE
from bitkeras.errors import UserError
from bitkeras.runs import RunFolder
from pipelines import cli
from pipelines.distribution import choose_strategy, distributed, require_divisible

TWO_PROCESSORS = """
import tensorflow as tf
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
"""
# Slow enough to be killed in the middle, and each process says which step it is at.
SLOW_STEPS = """
import time
from bitkeras.callbacks import Throughput
def batch_end(self, batch, logs=None):
    print("step", int(self.model.optimizer.iterations.read_value()), flush=True)
    time.sleep(0.3)
Throughput.on_train_batch_end = batch_end
"""


# At the rate of the preset eight steps move nothing by much.
FAST = ["--base_lr=0.5"]


def weights(run_dir):
    return tf.keras.models.load_model(run_dir / "encoder.keras").get_weights()


def require_same_road(start, one, other):
    """Weights that went from `start` to `one` went to `other` as well: rounding only, but for running variances.

    Those are by N / (N - 1) larger in several replicas, where N is 16 in the last block (see batch_norm).
    """
    for before, ours, theirs in zip(start, one, other):
        moved = np.linalg.norm(ours - before)
        assert moved > 0
        assert np.linalg.norm(ours - theirs) < 0.1 * moved


def test_one_device_is_one_replica(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name in ("auto", "one"):
        strategy = choose_strategy(name)
        assert strategy.num_replicas_in_sync == 1
        assert distributed(strategy, lambda *asked: asked, 7) == (7, WHOLE)
        require_divisible(7, strategy)


@pytest.mark.parametrize(
    ("name", "cluster", "match"),
    [
        ("mirrored", None, "at least two GPUs.*--strategy=one"),
        ("multi_worker", None, "needs the environment variable TF_CONFIG.*it names 0 workers now"),
        ("multi_worker", '{"cluster": {"worker": ["localhost:1"]}}', "names 1 workers now"),
        ("auto", "[1", "TF_CONFIG is no JSON object"),
        ("auto", "[1]", "TF_CONFIG is no JSON object"),
        (
            "multi_worker",
            '{"cluster": {"worker": ["localhost:1", "localhost:2"]}, "task": {"type": "worker", "index": 7}}',
            "cannot start as TF_CONFIG says.*one of the cluster",
        ),
    ],
)
def test_what_is_not_there_is_told_with_what_is_needed(name, cluster, match, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", cluster or "")
    with pytest.raises(UserError, match=match):
        choose_strategy(name)


def test_a_batch_that_cannot_be_shared_out_is_refused():
    class Three:
        num_replicas_in_sync = 3

    with pytest.raises(UserError, match="--batch_size=16 cannot be shared out evenly to 3 replicas; pass 15 or 18"):
        require_divisible(16, Three)
    with pytest.raises(UserError, match="--batch_size=2 .*replicas; pass 3, or --strategy=one"):
        require_divisible(2, Three)


@pytest.mark.slow
def test_two_replicas_end_with_the_weights_of_one(phantoms, tmp_path, capsys):
    start, one, two = tmp_path / "start", tmp_path / "one", tmp_path / "two"
    cli.run("pretrain", pretrain_flags(phantoms, start, "--epochs=0"))
    cli.run("pretrain", pretrain_flags(phantoms, one, *FAST))
    done = run_process("pretrain", *pretrain_flags(phantoms, two, *FAST, "--strategy=mirrored"), code=TWO_PROCESSORS)
    assert done.returncode == 0, done.stderr
    assert "2 replicas: 16 images a step, 8 on each" in done.stdout and "learning rate" in done.stdout
    require_same_road(weights(start), weights(one), weights(two))
    rows = [RunFolder(run_dir).metrics() for run_dir in (one, two)]
    np.testing.assert_allclose(*([row["loss"] for row in run[1:]] for run in rows), atol=2e-3)


def two_free_ports():
    with socket.socket() as first, socket.socket() as second:
        for one in (first, second):
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in (first, second)]


class Worker:
    """One of two processes that train together, and what it said."""

    def __init__(self, index, ports, arguments, log):
        cluster = {"worker": [f"localhost:{port}" for port in ports]}
        environment = {**os.environ, "TF_CONFIG": json.dumps({"cluster": cluster, "task": _task(index)})}
        self.log = log
        with open(log, "a") as file:
            code = f"{SLOW_STEPS}\nfrom pipelines import cli\ncli.main()"
            command = [sys.executable, "-c", code, "pretrain", *arguments]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)

    def wait_for(self, text, seconds=240):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if re.search(text, self.log.read_text()):
                return
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            time.sleep(0.2)
        raise AssertionError(f"{text!r} was not said: {self.log.read_text()[-3000:]}")


def _task(index):
    return {"type": "worker", "index": index}


@pytest.mark.slow
def test_two_processes_train_and_a_killed_one_may_come_back(phantoms, tmp_path):
    """Once it is killed, once it is asked to stop: then all keep the step, and it alone ends."""
    run, ports = RunFolder(tmp_path / "run"), two_free_ports()
    # Over twenty steps a higher rate makes much of what was rounding.
    slow = ["--base_lr=0.02", "--epochs=5"]
    arguments = pretrain_flags(phantoms, run.path, *slow, "--strategy=multi_worker")
    arguments.append("--checkpoint_steps=2")
    workers = [Worker(index, ports, arguments, tmp_path / f"{index}.log") for index in (0, 1)]
    try:
        workers[1].wait_for(r"step 7\b")
        workers[1].process.send_signal(signal.SIGKILL)
        workers[0].wait_for("another worker is lost")
        workers[1] = Worker(1, ports, arguments, tmp_path / "1.log")
        workers[1].wait_for(r"step 9\b")
        workers[1].process.send_signal(signal.SIGTERM)
        workers[0].wait_for(r"another worker is lost \(it was asked to stop after")
        assert workers[1].process.wait(timeout=60) == 143
        workers[1] = Worker(1, ports, arguments, tmp_path / "1.log")
        for worker in workers:
            assert worker.process.wait(timeout=300) == 0, worker.log.read_text()[-3000:]
    finally:
        for worker in workers:
            worker.process.kill()
    chief, other = ((tmp_path / f"{index}.log").read_text() for index in (0, 1))
    assert "2 replicas: 16 images a step, 8 on each" in chief
    after_kill, after_signal = re.findall(r"going on after (.*) of 5", chief)
    assert after_kill in ("step 2 of 4 in epoch 2", "epoch 1")
    (place,) = re.findall(r"stopped by SIGTERM after (.*); the same command", other)
    assert after_signal == place
    assert [row["epoch"] for row in run.metrics()] == [0, 1, 2, 3, 4, 5]
    for name, more in (("start", ["--epochs=0"]), ("alone", slow)):
        cli.run("pretrain", pretrain_flags(phantoms, tmp_path / name, *more))
    start, alone, ours = (
        np.concatenate([weight.ravel() for weight in weights(path)])
        for path in (tmp_path / "start", tmp_path / "alone", run.path)
    )
    assert np.linalg.norm(alone - ours) < 0.1 * np.linalg.norm(alone - start)


@pytest.mark.slow
def test_workers_with_different_flags_are_noticed(phantoms, tmp_path):
    ports = two_free_ports()
    workers = []
    for index, flag in enumerate(["--base_lr=0.5", "--base_lr=0.4"]):
        arguments = pretrain_flags(phantoms, tmp_path / "run", "--strategy=multi_worker", flag)
        workers.append(Worker(index, ports, arguments, tmp_path / f"{index}.log"))
    try:
        for worker in workers:
            assert worker.process.wait(timeout=300) == 1, worker.log.read_text()[-3000:]
            assert "were started with different flags, images or precisions" in worker.log.read_text()
    finally:
        for worker in workers:
            worker.process.kill()
    assert not list((tmp_path / "run").glob("checkpoints/*.index"))
