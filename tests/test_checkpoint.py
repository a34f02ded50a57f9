"""Checkpoints against what they are for: a run that was stopped anywhere ends as one that was not."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.callbacks import Diverged, LossGuard, RunCheckpoint, Stopped
from bitkeras.errors import UserError
from bitkeras.methods.trainer import Trainer
from pipelines.fitting import spans

STEPS = 4
ROWS = np.random.default_rng(0).normal(size=[4 * STEPS, 2]).astype(np.float32)


class Line(Trainer):
    """Least squares on two weights; `loss` of a row with a NaN is NaN."""

    def __init__(self, units=1):
        super().__init__(weight_decay=0.01)
        tf.keras.utils.set_random_seed(1)
        self.layer = tf.keras.layers.Dense(units)
        self.layer.build([None, 2])

    def batch_loss(self, batch, *, training):
        return tf.reduce_mean(tf.square(self.layer(batch) - 1.0))


def fresh(folder, *, units=1, **options):
    made = Line(units)
    made.compile(optimizer=tf.keras.optimizers.SGD(tf.keras.optimizers.schedules.CosineDecay(0.1, 20), momentum=0.9))
    return made, RunCheckpoint(made, folder, steps_per_epoch=STEPS, **options)


def train(model, checkpoint, epochs, *, rows=ROWS, guards=()):
    """Goes on from where the checkpoint is, as `pipelines.fitting.fit` does; returns the losses of the epochs."""
    losses = []
    for first, last, steps in spans(checkpoint.steps_done, STEPS, epochs):
        if steps < STEPS:
            model.keep_metrics_once()
        data = tf.data.Dataset.from_tensor_slices(rows).batch(4).repeat().skip(checkpoint.steps_done)
        options = {"initial_epoch": first, "epochs": last, "steps_per_epoch": steps, "verbose": 0}
        losses += model.fit(data, **options, callbacks=[*guards, checkpoint]).history["loss"]
    return losses


def stop_at(step):
    """Asks to stop after so many steps."""
    taken = iter(range(1, 1000))
    return lambda: next(taken) >= step


def test_a_run_is_a_rest_and_whole_epochs():
    assert spans(0, 10, 3) == [(0, 3, 10)]
    assert spans(20, 10, 3) == [(2, 3, 10)]
    assert spans(14, 10, 3) == [(1, 2, 6), (2, 3, 10)]
    assert spans(24, 10, 3) == [(2, 3, 6)]
    assert spans(30, 10, 3) == []


@pytest.mark.parametrize("step", [1, 3, 4, 6])
def test_stopped_anywhere_it_ends_as_uninterrupted_and_tells_the_same_losses(tmp_path, step):
    whole, checkpoint = fresh(tmp_path / "whole")
    assert checkpoint.restore() == 0
    expected = train(whole, checkpoint, 3)
    first, checkpoint = fresh(tmp_path / "parts", asked_to_stop=stop_at(step))
    with pytest.raises(Stopped, match="epoch 1$" if step == STEPS else f"step {step % STEPS} of 4 in epoch"):
        train(first, checkpoint, 3)
    second, checkpoint = fresh(tmp_path / "parts")
    assert checkpoint.restore() == step
    losses = train(second, checkpoint, 3)
    np.testing.assert_array_equal(losses, expected[step // STEPS :])
    for resumed, uninterrupted in zip(second.get_weights(), whole.get_weights()):
        np.testing.assert_array_equal(resumed, uninterrupted)
    assert int(second.optimizer.iterations) == 3 * STEPS


def test_the_newest_checkpoints_stay_and_beside_them_the_newest_ends_of_epochs(tmp_path):
    model, checkpoint = fresh(tmp_path, every=1)
    with pytest.raises(Stopped):
        checkpoint.asked_to_stop = stop_at(11)
        train(model, checkpoint, 3)
    assert [path.name for path in checkpoint.kept()] == ["ckpt-4", "ckpt-8", "ckpt-10", "ckpt-11"]
    checkpoint.asked_to_stop = lambda: False
    train(model, checkpoint, 3)
    assert [path.name for path in checkpoint.kept()] == ["ckpt-8", "ckpt-11", "ckpt-12"]
    model, checkpoint = fresh(tmp_path / "two", every=3)
    train(model, checkpoint, 2)
    assert [path.name for path in checkpoint.kept()] == ["ckpt-4", "ckpt-6", "ckpt-8"]
    assert checkpoint.last_good() == f"the checkpoint of epoch 2 is kept ({tmp_path / 'two' / 'ckpt-8'})"
    model, checkpoint = fresh(tmp_path / "more", keep=3)
    train(model, checkpoint, 5)
    assert [path.name for path in checkpoint.kept()] == ["ckpt-12", "ckpt-16", "ckpt-20"]


def test_the_loss_scale_comes_back(tmp_path):
    def scaled():
        model = Line()
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(tf.keras.optimizers.SGD(0.1), initial_scale=1024)
        model.compile(optimizer=optimizer)
        return model, RunCheckpoint(model, tmp_path, steps_per_epoch=STEPS, asked_to_stop=stop_at(6))

    model, checkpoint = scaled()
    with pytest.raises(Stopped):
        # Each epoch has a step whose gradient overflows, and the scale halves.
        train(model, checkpoint, 2, rows=np.where(np.arange(16)[:, None] == 5, np.float32(1e30), ROWS))
    scale, counted = float(model.optimizer.loss_scale), int(model.optimizer.iterations)
    assert scale == 256
    model, checkpoint = scaled()
    assert checkpoint.restore() == 6
    assert (float(model.optimizer.loss_scale), int(model.optimizer.iterations)) == (scale, counted)


@pytest.mark.parametrize("ending", [".data-00000-of-00001", ".index"])
def test_for_a_damaged_checkpoint_the_one_before_serves(tmp_path, ending):
    model, checkpoint = fresh(tmp_path)
    train(model, checkpoint, 2)
    weights = model.get_weights()
    train(model, checkpoint, 3)
    (damaged,) = tmp_path.glob(f"ckpt-12{ending}")
    damaged.write_bytes(damaged.read_bytes()[:40])
    (tmp_path / "ckpt-16_temp").mkdir()
    told = []
    model, checkpoint = fresh(tmp_path, say=told.append)
    assert checkpoint.restore() == 8
    (line,) = told
    assert f"{tmp_path / 'ckpt-12'} is damaged" in line and "one before" in line
    assert [path.name for path in checkpoint.kept()] == ["ckpt-8"]
    for restored, kept in zip(model.get_weights(), weights):
        np.testing.assert_array_equal(restored, kept)
    train(model, checkpoint, 3)
    assert fresh(tmp_path)[1].restore() == 12
    assert not (tmp_path / "ckpt-16_temp").exists()


def test_without_a_whole_checkpoint_nothing_is_started_over_unasked(tmp_path):
    model, checkpoint = fresh(tmp_path)
    train(model, checkpoint, 2)
    for path in tmp_path.glob("*.index"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="None of the checkpoints.*is whole.*delete it to start over"):
        fresh(tmp_path, say=lambda line: None)[1].restore()


def test_checkpoints_outlive_the_list_of_them(tmp_path):
    model, checkpoint = fresh(tmp_path)
    train(model, checkpoint, 2)
    (tmp_path / "checkpoint").unlink()
    assert fresh(tmp_path)[1].restore() == 8


def test_a_checkpoint_of_another_network_is_no_checkpoint_of_this_one(tmp_path):
    train(*fresh(tmp_path), 1)
    with pytest.raises(UserError, match="ckpt-4 cannot be restored, since it is of another network"):
        fresh(tmp_path, units=3)[1].restore()


def test_a_folder_that_cannot_be_written_is_told_and_the_checkpoint_before_stays(tmp_path):
    model, checkpoint = fresh(tmp_path / "run")
    train(model, checkpoint, 1)
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "run", kept)
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "run").write_text("a file where the folder was")
    with pytest.raises(UserError, match="checkpoint of epoch 2 could not be written.*the one before is kept"):
        train(model, checkpoint, 2)
    (tmp_path / "run").unlink()
    kept.rename(tmp_path / "run")
    assert fresh(tmp_path / "run")[1].restore() == 4


def test_rolled_back_the_state_is_old_and_the_clock_is_not(tmp_path):
    factor = tf.Variable(1.0, trainable=False)
    model, checkpoint = fresh(tmp_path, factor=factor)
    train(model, checkpoint, 1)
    weights, momenta = model.get_weights(), [slot.numpy() for slot in model.optimizer.momentums]
    train(model, checkpoint, 2)
    factor.assign(0.1)
    assert checkpoint.roll_back(1) == 1
    for now, then in zip(model.get_weights(), weights):
        np.testing.assert_array_equal(now, then)
    for now, then in zip(model.optimizer.momentums, momenta):
        np.testing.assert_array_equal(now, then)
    assert (checkpoint.steps_done, int(model.optimizer.iterations), float(factor)) == (8, 8, 1.0)
    # Epoch 3 is not kept, so the last one before it serves; before epoch 1 there is none.
    assert checkpoint.roll_back(3) == 2
    with pytest.raises(UserError, match="No checkpoint of epoch 0 or before is kept"):
        checkpoint.roll_back(0)


@pytest.mark.parametrize("every", [1, 3, 100])
def test_a_loss_that_is_no_number_is_named_with_its_step(tmp_path, every):
    rows = np.where(np.arange(16)[:, None] == 9, np.float32(np.nan), ROWS)
    model, checkpoint = fresh(tmp_path)
    asked = []

    def record(step):
        asked.append(step)
        return "somebody wrote down"

    guard = LossGuard(steps_per_epoch=STEPS, record=record, every=every)
    with pytest.raises(Diverged, match="In step 3 of 4 of epoch 1 the loss became NaN.*somebody wrote down"):
        train(model, checkpoint, 2, rows=rows, guards=[guard])
    assert asked == [2] and not checkpoint.kept()


def test_what_is_no_number_never_becomes_a_checkpoint(tmp_path):
    rows = np.where(np.arange(32)[:, None] == 21, np.float32(np.nan), np.tile(ROWS, [2, 1]))
    model, checkpoint = fresh(tmp_path, every=1)
    guard = LossGuard(steps_per_epoch=STEPS, record=str, every=100)
    checkpoint.require_good = guard.require_good
    with pytest.raises(Diverged, match="In step 2 of 4 of epoch 2"):
        train(model, checkpoint, 2, rows=rows, guards=[guard])
    assert [path.name for path in checkpoint.kept()] == ["ckpt-3", "ckpt-4", "ckpt-5"][-len(checkpoint.kept()) :]
    assert checkpoint.kept()[-1].name == "ckpt-5"
    model, checkpoint = fresh(tmp_path)
    assert checkpoint.restore() == 5
    assert np.isfinite(model.layer.kernel.numpy()).all()


def test_a_weight_that_is_no_number_never_becomes_a_checkpoint(tmp_path):
    model, checkpoint = fresh(tmp_path)
    guard = LossGuard(steps_per_epoch=STEPS, record=str)
    guard.set_model(model)
    guard.set_params({"steps": STEPS})
    guard.on_epoch_begin(0)
    model.layer.kernel.assign(tf.fill(model.layer.kernel.shape, np.inf))
    with pytest.raises(Diverged, match="the weights became infinite or NaN"):
        guard.require_good(0)


def test_the_step_is_right_in_an_epoch_that_was_gone_on_with(tmp_path):
    rows = np.where(np.arange(32)[:, None] == 30, np.float32(np.nan), np.tile(ROWS, [2, 1]))
    model, checkpoint = fresh(tmp_path, asked_to_stop=stop_at(6))
    with pytest.raises(Stopped):
        train(model, checkpoint, 2, rows=rows)
    model, checkpoint = fresh(tmp_path)
    checkpoint.restore()
    guard = LossGuard(steps_per_epoch=STEPS, record="is step {}".format, every=1)
    with pytest.raises(Diverged, match="In step 4 of 4 of epoch 2 .* is step 7"):
        train(model, checkpoint, 2, rows=rows, guards=[guard])
