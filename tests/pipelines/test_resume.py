"""Nothing is lost: runs that are killed, stopped, spoiled or out of room go on where they were."""

import json
import os
import signal

import numpy as np
import pytest
import tensorflow as tf
from small_road import DIE_IN_EPOCH_2, pretrain_flags, run_process

from bitkeras.callbacks import progress
from bitkeras.runs import RunFolder
from pipelines import cli

pytestmark = pytest.mark.slow

# After the first epoch no file may grow beyond 100 kB, which a checkpoint does: as on a full disk, a write fails.
FULL_IN_EPOCH_2 = """
import resource
from bitkeras.callbacks import Throughput
start = Throughput.on_epoch_begin
def begin(self, epoch, logs=None):
    start(self, epoch, logs)
    if epoch == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
Throughput.on_epoch_begin = begin
"""
GO_ON_AND_COMPARE = """
from pipelines import cli
import numpy as np, sys, tensorflow as tf
killed, whole, *flags = sys.argv[1:]
for run_dir in (killed, whole):
    cli.run("pretrain", [*flags, f"--run_dir={run_dir}"])
weights = [tf.keras.models.load_model(f"{run_dir}/encoder.keras").get_weights() for run_dir in (killed, whole)]
print("bitwise equal:", all(np.array_equal(one, other) for one, other in zip(*weights)), len(weights[0]))
kept = [tf.train.load_checkpoint(f"{run_dir}/checkpoints/ckpt-12") for run_dir in (killed, whole)]
names = [name for name in kept[0].get_variable_to_shape_map() if name.endswith("VARIABLE_VALUE")]
print("same checkpoint:", all(np.array_equal(*(one.get_tensor(name) for one in kept)) for name in names), len(names))
average = [name for name in names if "/average/averages/" in name]
average.sort(key=lambda name: int(name.split("/average/averages/")[1].split("/")[0]))
found = [kept[0].get_tensor(name) for name in average]
print("is the average:", len(found) == len(weights[0]) and all(map(np.array_equal, found, weights[0])))
trained = [kept[0].get_tensor(name) for name in names if "/encoder/" in name and "kernel" in name]
print("is trained:", any(np.array_equal(one, other) for one in trained for other in weights[0]), len(trained))
sys.exit()
"""


def weights(run_dir):
    return tf.keras.models.load_model(run_dir / "encoder.keras").get_weights()


def epochs(run_dir):
    return [row["epoch"] for row in RunFolder(run_dir).metrics()]


def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one_to_the_bit(phantoms, tmp_path):
    """With --ema, so that what is kept of both and what is trained on both have to agree."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    # The kill is at step 6, the last checkpoint of step 5, the second of epoch 2.
    more = ("--epochs=3", "--deterministic", "--checkpoint_steps=5", "--ema=0.9")
    done = run_process("pretrain", *pretrain_flags(phantoms, killed, *more), code=DIE_IN_EPOCH_2)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert epochs(killed) == [0, 1] and not RunFolder(killed).is_finished
    # A kill in the middle of writing leaves half a row.
    with open(killed / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 2, "loss": -0.')
    flags = [flag for flag in pretrain_flags(phantoms, whole, *more) if not flag.startswith("--run_dir")]
    done = run_process(str(killed), str(whole), *flags, code=GO_ON_AND_COMPARE)
    assert done.returncode == 0, done.stderr
    assert "going on after step 1 of 4 in epoch 2 of 3" in done.stdout
    for told in ("bitwise equal: True", "same checkpoint: True", "is the average: True", "is trained: False"):
        assert told in done.stdout, done.stdout
    rows = [RunFolder(run_dir).metrics() for run_dir in (killed, whole)]
    assert [row["epoch"] for row in rows[0]] == [0, 1, 2, 3]
    for name in ("loss", "lr", "knn_balanced_accuracy", "rankme"):
        assert [row.get(name) for row in rows[0]] == [row.get(name) for row in rows[1]]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl_c", "term"])
def test_a_signal_keeps_the_step_and_the_run_goes_on(phantoms, tmp_path, capsys, monkeypatch, number, status):
    run, flags = RunFolder(tmp_path / "run"), pretrain_flags(phantoms, tmp_path / "run", "--epochs=2")

    def ask(self, batch, logs=None):
        if self.model.optimizer.iterations == 6:
            os.kill(os.getpid(), number)

    with monkeypatch.context() as patch:
        patch.setattr(progress.Throughput, "on_train_batch_end", ask)
        before = signal.getsignal(number)
        with pytest.raises(SystemExit) as stopped:
            cli.main(["pretrain", *flags])
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert stopped.value.code == status and f"stopped by {number.name} after step 2 of 4 in epoch 2" in line
    assert f"{number.name}: stopping after this step" in said.out
    assert signal.getsignal(number) is before
    assert sorted(path.name for path in run.checkpoints_path.glob("*.index")) == ["ckpt-4.index", "ckpt-6.index"]
    cli.run("pretrain", flags)
    assert "going on after step 2 of 4 in epoch 2 of 2" in capsys.readouterr().out
    assert epochs(run.path) == [0, 1, 2]


def test_a_run_that_diverges_names_the_step_and_the_images_and_keeps_its_checkpoint(
    phantoms, tmp_path, capsys, monkeypatch
):
    run, flags = RunFolder(tmp_path / "run"), pretrain_flags(phantoms, tmp_path / "run")

    def spoil(self, batch, logs=None):
        if self.model.optimizer.iterations == 6:
            kernel = self.model.predictor.trainable_variables[0]
            kernel.assign(tf.fill(kernel.shape, np.nan))

    with monkeypatch.context() as patch:
        patch.setattr(progress.Throughput, "on_train_batch_end", spoil)
        with pytest.raises(SystemExit) as stopped:
            cli.main(["pretrain", *flags])
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 1 and "In step 3 of 4 of epoch 2 the loss became NaN" in line
    assert "checkpoint of epoch 1 is kept" in line and "ckpt-4" in line and "--base_lr" in line
    blamed = json.loads((run.path / "not_finite.json").read_text())
    assert blamed["step"] == 6 and len(set(blamed["image_ids"])) == 16 and blamed["image_ids"][0] in line
    assert epochs(run.path) == [0, 1] and not run.is_finished
    assert [path.name for path in run.checkpoints_path.glob("*.index")] == ["ckpt-4.index"]
    cli.run("pretrain", flags)
    assert epochs(run.path) == [0, 1, 2] and all(np.isfinite(value).all() for value in weights(run.path))


def test_a_run_that_cannot_write_keeps_what_it_has_and_goes_on_where_there_is_room(phantoms, tmp_path, capsys):
    run, flags = RunFolder(tmp_path / "run"), pretrain_flags(phantoms, tmp_path / "run")
    done = run_process("pretrain", *flags, code=FULL_IN_EPOCH_2)
    # TensorFlow's own log stands before it.
    *_, line = done.stderr.splitlines()
    assert "Traceback" not in done.stderr
    # TensorBoard's file comes first.
    assert done.returncode == 1 and "could not be written" in line and "Make room" in line
    assert [path.name for path in run.checkpoints_path.glob("*.index")] == ["ckpt-4.index"] and not run.is_finished
    cli.run("pretrain", flags)
    assert "going on after epoch 1 of 2" in capsys.readouterr().out
    assert epochs(run.path) == [0, 1, 2] and run.is_finished


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("events.v2; No space left on device", "The disk is full (events.v2; No space left on device); make room"),
        ("OOM when allocating tensor with shape[9,9]", "The memory does not hold a step of 16 images at 32 px"),
    ],
)
def test_a_full_disk_is_not_taken_for_a_full_memory(reason, told, phantoms, tmp_path, capsys, monkeypatch):
    def fail(*_):
        raise tf.errors.ResourceExhaustedError(None, None, reason)

    monkeypatch.setattr(progress.Throughput, "on_epoch_end", fail)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["pretrain", *pretrain_flags(phantoms, tmp_path / "run")])
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 1 and told in line


def test_an_absurd_rate_is_told_in_one_sentence(phantoms, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["pretrain", *pretrain_flags(phantoms, tmp_path / "run", "--base_lr=1e30")])
    (line,) = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 1 and "epoch 1" in line and "no checkpoint yet" in line and "--base_lr" in line
