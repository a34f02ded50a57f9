import math

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.callbacks.monitors import FeatureMonitor
from bitkeras.callbacks.sentinel import MAX_ROLLBACKS, CollapseSentinel, throttled
from bitkeras.errors import UserError
from bitkeras.evaluation.verdict import COMPLETE_COLLAPSE, DIMENSIONAL_COLLAPSE, HEALTHY, NOT_OPTIMISING
from bitkeras.methods import SimSiam

SIZE, BATCH_SIZE, STEPS, EPOCHS, LR = 32, 64, 16, 5, 0.4


def textures(count, seed):
    """Gratings behind a blob in colours of their own, with noise; float32 [count, 32, 32, 3] in [-1, 1]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    draw = lambda low, high: rng.uniform(low, high, [count, 1, 1])  # noqa: E731
    angle, frequency, phase = draw(0, np.pi), draw(1, 6), draw(0, 2 * np.pi)
    grating = np.sin(2 * np.pi * frequency * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    blob = np.exp(-((x - draw(0.2, 0.8)) ** 2 + (y - draw(0.2, 0.8)) ** 2) / draw(0.05, 0.2) ** 2)
    colours = rng.uniform(-0.6, 0.6, [3, count, 1, 1, 3])
    images = 0.35 * grating[..., None] * colours[0] + 0.8 * blob[..., None] * colours[1] + 0.5 * colours[2]
    return np.clip(images + rng.normal(0, 0.05, images.shape), -1, 1).astype(np.float32)


def views(images, seed, pad=6):
    """Shifts, flips, brightness and colour casts."""
    rng = np.random.default_rng(seed)
    padded = np.pad(images, [(0, 0), (pad, pad), (pad, pad), (0, 0)], mode="reflect")
    corners = rng.integers(0, 2 * pad + 1, [len(images), 2])
    shifted = np.stack([image[top : top + SIZE, left : left + SIZE] for image, (top, left) in zip(padded, corners)])
    flipped = rng.random(len(images)) < 0.5
    shifted[flipped] = shifted[flipped, :, ::-1]
    gain, cast = rng.uniform(0.6, 1.4, [len(images), 1, 1, 1]), rng.uniform(-0.2, 0.2, [len(images), 1, 1, 3])
    return np.clip(shifted * gain + cast, -1, 1).astype(np.float32)


@pytest.fixture(scope="module")
def data():
    """(pairs to train on, held-out images, held-out pairs)."""
    images, held_out = np.tile(textures(STEPS * BATCH_SIZE, 0), [2, 1, 1, 1]), textures(256, 1)
    pairs = {"views_a": views(images, 2), "views_b": views(images, 3)}
    return pairs, held_out, {"views_a": views(held_out[:64], 4), "views_b": views(held_out[:64], 5)}


def small_encoder(num_features=64):
    images = x = tf.keras.Input([SIZE, SIZE, 3])
    for width in (16, 32, num_features):
        x = tf.keras.layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x)
        x = tf.keras.layers.ReLU()(tf.keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5)(x))
    return tf.keras.Model(images, tf.keras.layers.GlobalAveragePooling2D()(x))


class NoStopGradient(SimSiam):
    def target(self, projections):
        return projections


class NoPredictor(SimSiam):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.predictor = tf.keras.Sequential([tf.keras.layers.Activation("linear", input_shape=[128])])


def train(data, *, method=SimSiam, lr=LR, epochs=EPOCHS, seed=0, **sentinel_options):
    """The sentinel after a run that is watched as `bitkeras pretrain` watches one."""
    pairs, held_out, held_out_pairs = data
    tf.keras.utils.set_random_seed(seed)
    trainer = method(small_encoder(), num_projections=128, num_predictor_hidden=32)
    trainer.compile(optimizer=tf.keras.optimizers.SGD(lr, momentum=0.9))
    monitor = FeatureMonitor(
        trainer.encoder, queries=[held_out], view_pairs=held_out_pairs, projector=trainer.projector
    )
    sentinel = CollapseSentinel(rows=[{"epoch": 0, **monitor.measure()}], **{"say": lambda _: None, **sentinel_options})
    batches = tf.data.Dataset.from_tensor_slices(pairs).shuffle(len(pairs["views_a"]), seed=seed).batch(BATCH_SIZE)
    callbacks = [monitor, sentinel, sentinel.action]
    trainer.fit(batches.repeat(), steps_per_epoch=STEPS, epochs=epochs, verbose=0, callbacks=callbacks)
    return sentinel


def verdicts(sentinel):
    return [row["verdict"] for row in sentinel.rows]


def test_a_healthy_run_is_never_flagged(data):
    lines = []
    sentinel = train(data, say=lines.append, on_collapse="stop")
    assert verdicts(sentinel) == [HEALTHY] * (EPOCHS + 1)
    assert lines == [] and sentinel.last_healthy == EPOCHS
    # It does learn: what it is measured by has moved.
    assert sentinel.rows[-1]["loss"] < -0.4
    assert sentinel.rows[-1]["alignment"] / -sentinel.rows[-1]["uniformity"] < 0.8


# What the figures say of these three: the features keep directions for a while, the projections lose theirs at once.
@pytest.mark.parametrize(
    ("method", "lr"),
    [(NoStopGradient, LR), (NoPredictor, LR), (SimSiam, 100 * LR)],
    ids=["no stop-gradient", "no predictor", "a rate 100x too high"],
)
def test_what_breaks_simsiam_is_caught_within_a_few_epochs(data, method, lr):
    lines = []
    sentinel = train(data, method=method, lr=lr, say=lines.append)
    # Both kinds of collapse are accepted: which of them an epoch shows depends on where the run is thrown.
    assert set(verdicts(sentinel)[-2:]) <= {DIMENSIONAL_COLLAPSE, COMPLETE_COLLAPSE}
    assert lines and lines[0].startswith("warning: epoch ") and "--base_lr" in lines[0]


def test_a_loss_that_stands_still_is_told_though_the_features_are_well(data):
    sentinel = train(data, lr=0.0)
    assert verdicts(sentinel) == [HEALTHY] * EPOCHS + [NOT_OPTIMISING]


def row(epoch, **figures):
    good = {"loss": -0.1 * epoch, "mean_pairwise_cosine": 0.6, "rankme": 100.0, "projector_rankme": 60.0}
    return {**good, "epoch": epoch, **figures}


FEW, POINT = {"rankme": 5.0}, {"mean_pairwise_cosine": 0.9999}


def play(sentinel, *epochs, first=1):
    """Epochs with the given figures, as `fit` would report them; their codes."""
    codes = []
    for epoch, figures in enumerate(epochs, start=first):
        logs = {name: value for name, value in row(epoch, **figures).items() if name != "epoch"}
        sentinel.on_epoch_end(epoch - 1, logs)
        codes.append(logs["verdict"].code)
        sentinel.action.on_epoch_end(epoch - 1, logs)
    return codes


def test_each_bad_verdict_is_said_once_and_so_is_its_end():
    lines = []
    sentinel = CollapseSentinel(rows=[row(0)], say=lines.append)
    assert play(sentinel, {}, FEW, FEW, FEW, POINT, FEW, {}, {}) == [0, 2, 2, 2, 3, 2, 0, 0]
    assert [line.split(":")[0] for line in lines] == ["warning", "warning", "epoch 7"]
    assert "epoch 3: dimensional collapse" in lines[0] and "epoch 5: complete collapse" in lines[1]
    assert "healthy again" in lines[2]
    # One bad epoch is no reason to speak.
    assert play(sentinel, FEW, {}, first=9) == [2, 0] and len(lines) == 3


def test_stop_ends_the_run_and_says_what_there_is_to_go_back_to():
    sentinel = CollapseSentinel(on_collapse="stop", patience=3, rows=[row(0)])
    with pytest.raises(UserError) as error:
        play(sentinel, {}, {}, FEW, POINT, FEW, {})
    text = str(error.value)
    assert text.startswith("Epoch 5 ends the run with dimensional collapse in 3 epochs in a row (the features' RankMe")
    assert "the checkpoint of epoch 2 is the last healthy one" in text and "\n" not in text
    assert text.endswith("apart.") and "Lower --base_lr" in text


def test_a_run_that_was_never_healthy_says_so():
    with pytest.raises(UserError, match="no epoch was healthy"):
        play(CollapseSentinel(on_collapse="stop", rows=[row(0)]), FEW, FEW)


def test_a_run_that_goes_on_judges_as_one_that_was_not_stopped():
    whole = CollapseSentinel(on_collapse="stop", rows=[row(0)])
    play(whole, {}, {}, FEW)
    # On record stands more than the sentinel needs.
    resumed = CollapseSentinel(on_collapse="stop", rows=[{**row, "lr": 0.1} for row in whole.rows])
    for sentinel in (whole, resumed):
        with pytest.raises(UserError, match="Epoch 4 .*epoch 2 is the last"):
            play(sentinel, FEW, first=4)


def test_rollback_takes_the_last_healthy_epoch_and_a_tenth_of_the_rate_and_gives_up_in_the_end():
    asked, lines, factor = [], [], tf.Variable(1.0)

    def rollback(epoch):
        asked.append(epoch)
        # What is restored is the factor of that time.
        factor.assign(1.0)
        return epoch - 1

    sentinel = CollapseSentinel(
        on_collapse="rollback", rows=[row(0)], rollback=rollback, rate_factor=factor, say=lines.append
    )
    play(sentinel, {}, {}, FEW, FEW)
    assert asked == [2] and float(factor) == pytest.approx(0.1)
    assert "epoch 4: dimensional collapse" in lines[0] and "back to the weights of epoch 1" in lines[0]
    assert "0.1 of the learning rate (rollback 1 of 3)" in lines[0]
    # After it a bad epoch counts from 1 again.
    play(sentinel, FEW, {}, FEW, FEW, first=5)
    assert asked == [2, 6] and float(factor) == pytest.approx(0.01)
    # A run that goes on knows from the factor how often that was.
    resumed = CollapseSentinel(
        on_collapse="rollback", rows=sentinel.rows, rollback=rollback, rate_factor=factor, say=lines.append
    )
    play(resumed, {}, FEW, FEW, first=9)
    assert asked == [2, 6, 9] and float(factor) == pytest.approx(0.001)
    with pytest.raises(UserError, match=f"{MAX_ROLLBACKS} rollbacks have been made.*Lower --base_lr"):
        play(resumed, FEW, FEW, first=12)
    assert len(asked) == len(lines) == MAX_ROLLBACKS


def test_a_run_that_goes_on_after_a_rollback_does_not_count_its_bad_epochs_anew():
    asked, factor = [], tf.Variable(1.0)
    options = {"on_collapse": "rollback", "rollback": lambda epoch: asked.append(epoch) or epoch, "rate_factor": factor}
    whole = CollapseSentinel(rows=[row(0)], say=lambda _: None, **options)
    play(whole, {}, {}, FEW, FEW)
    at_once = CollapseSentinel(rows=whole.rows, **options)
    play(whole, FEW, first=5)
    assert [epoch.get("rollbacks") for epoch in whole.rows] == [None, 0, 0, 0, 0, 1]
    later = CollapseSentinel(rows=whole.rows, **options)
    # The checkpoint of the fourth epoch holds what the rollback brought back.
    for sentinel, bad_epochs in ((at_once, 0), (later, 1)):
        assert (sentinel.bad_epochs, sentinel.last_healthy, sentinel.rollbacks) == (bad_epochs, 4, 1)
    assert asked == [2]


def test_the_loss_after_a_rollback_is_not_measured_by_that_of_the_collapse():
    factor = tf.Variable(1.0)
    sentinel = CollapseSentinel(
        on_collapse="rollback", rows=[row(0)], rollback=lambda epoch: epoch, rate_factor=factor, say=lambda _: None
    )
    collapsed = {**POINT, "loss": -1.0}
    codes = play(sentinel, {}, {}, collapsed, collapsed, *[{"loss": -0.25 - 0.01 * n} for n in range(6)])
    assert codes == [0, 0, 3, 3, 0, 0, 0, 0, 0, 0]


def test_without_a_healthy_epoch_there_is_nothing_to_roll_back_to():
    options = {"rollback": lambda epoch: pytest.fail("asked to roll back"), "rate_factor": tf.Variable(1.0)}
    with pytest.raises(UserError, match="no epoch was healthy"):
        play(CollapseSentinel(on_collapse="rollback", rows=[row(0)], **options), FEW, FEW)


def test_what_cannot_be_done_is_refused_at_the_start():
    with pytest.raises(UserError, match="on_collapse is panic; use one of warn, stop, rollback"):
        CollapseSentinel(on_collapse="panic")
    with pytest.raises(ValueError, match="rate_factor"):
        CollapseSentinel(on_collapse="rollback", rollback=lambda epoch: epoch)


def test_the_factor_acts_in_a_training_step_that_is_compiled_already():
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", input_shape=[1])])
    factor = tf.Variable(1.0, trainable=False)
    # d loss / d w = 1 for a loss that is the output, at an input of 1.
    model.compile(
        optimizer=tf.keras.optimizers.SGD(throttled(tf.keras.optimizers.schedules.CosineDecay(0.5, 4), factor)),
        loss=lambda _, outputs: tf.reduce_mean(outputs),
    )
    moved, weight = [], 1.0
    for step, value in enumerate([1.0, 1.0, 0.1, 0.1]):
        factor.assign(value)
        model.fit(np.ones([1, 1]), np.ones([1, 1]), verbose=0)
        moved.append(weight - model.get_weights()[0].item())
        weight -= moved[-1]
        assert moved[-1] == pytest.approx(value * 0.25 * (1 + math.cos(math.pi * step / 4)), rel=1e-4)
    assert moved[2] < moved[1] / 10
