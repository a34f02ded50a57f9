import contextlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from small_road import ROOT, pretrain_flags, run_process

from bitkeras import callbacks
from bitkeras.runs import RunFolder
from pipelines import cli

pytestmark = pytest.mark.slow

DIE_IN_EPOCH_2 = """
import os, signal
from bitkeras import callbacks
def die(self, batch, logs=None):
    if self.epoch == 1 and batch == 1:
        os.kill(os.getpid(), signal.SIGKILL)
def begin(self, epoch, logs=None):
    self.epoch, self.started = epoch, 0.0
callbacks.Throughput.on_epoch_begin, callbacks.Throughput.on_train_batch_end = begin, die
"""


def weights(run_dir):
    return tf.keras.models.load_model(run_dir / "encoder.keras").get_weights()


def epochs(run_dir):
    return [row["epoch"] for row in RunFolder(run_dir).metrics()]


def test_a_killed_run_ends_where_an_uninterrupted_one_does(phantoms, tmp_path, capsys):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = run_process("pretrain", *pretrain_flags(phantoms, killed, "--epochs=3"), code=DIE_IN_EPOCH_2)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert epochs(killed) == [0, 1] and not RunFolder(killed).is_finished
    # A kill in the middle of writing leaves half a row.
    with open(killed / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 2, "loss": -0.')
    for run_dir in (whole, killed):
        cli.run("pretrain", pretrain_flags(phantoms, run_dir, "--epochs=3"))
        assert epochs(run_dir) == [0, 1, 2, 3]
    assert "going on after epoch 1 of 3" in capsys.readouterr().out
    for resumed, uninterrupted in zip(weights(killed), weights(whole)):
        np.testing.assert_allclose(resumed, uninterrupted, rtol=1e-5, atol=1e-5)
    rows = [RunFolder(run_dir).metrics() for run_dir in (killed, whole)]
    for name in ("loss", "lr", "knn_balanced_accuracy", "rankme"):
        np.testing.assert_allclose(*[[row[name] for row in run[1:]] for run in rows], rtol=1e-4, atol=1e-5)


def test_ctrl_c_is_one_sentence_and_the_run_goes_on(phantoms, tmp_path, capsys, monkeypatch):
    flags = pretrain_flags(phantoms, tmp_path, "--epochs=5000")
    command = [sys.executable, "-m", "pipelines.cli", "pretrain", *flags]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("epoch 2/5000"):
                break
        for _ in range(3):
            # Python drops an interrupt that arrives while it runs a destructor; a person would press the keys again.
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                _, errors = process.communicate(timeout=30)
                break
    assert process.returncode == 130, errors
    assert len(errors.splitlines()) == 1 and "interrupted" in errors
    done = int(tf.train.latest_checkpoint(str(tmp_path / "checkpoints")).rpartition("-")[2])
    assert done >= 2

    def interrupt(self, epoch, logs=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(callbacks.PlainProgress, "on_epoch_end", interrupt)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["pretrain", *flags])
    assert stopped.value.code == 130
    assert f"going on after epoch {done} of 5000" in capsys.readouterr().out
    assert epochs(tmp_path) == list(range(done + 2))


def test_a_run_that_diverges_says_so_and_keeps_its_checkpoint(phantoms, tmp_path, capsys, monkeypatch):
    run, flags = RunFolder(tmp_path / "run"), pretrain_flags(phantoms, tmp_path / "run")

    def spoil(self, epoch, logs=None):
        self.started = 0.0
        if epoch == 1:
            kernel = self.model.encoder.trainable_variables[0]
            kernel.assign(tf.fill(kernel.shape, np.nan))

    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Throughput, "on_epoch_begin", spoil)
        with pytest.raises(SystemExit) as stopped:
            cli.main(["pretrain", *flags])
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 1 and "epoch 2" in line and "checkpoint of epoch 1 is kept" in line
    assert epochs(run.path) == [0, 1] and not run.is_finished
    assert [path.name for path in run.checkpoints_path.glob("*.index")] == ["ckpt-1.index"]
    cli.run("pretrain", flags)
    assert epochs(run.path) == [0, 1, 2] and all(np.isfinite(value).all() for value in weights(run.path))


def test_an_absurd_rate_is_told_in_one_sentence(phantoms, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["pretrain", *pretrain_flags(phantoms, tmp_path / "run", "--base_lr=1e30")])
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 1 and "epoch 1" in line and "no checkpoint yet" in line and "--base_lr" in line
