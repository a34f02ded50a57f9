"""The average of an encoder, against a loop in NumPy over the weights of every step."""

import numpy as np
import pytest
import tensorflow as tf
from small_trainers import conv_encoder, fit, precision, view_pair

from bitkeras.errors import UserError
from bitkeras.methods import build_method
from bitkeras.methods.average import decay_at

SMALL = {"num_projections": 8, "num_hidden": 16}


def averaging(decay, method="simsiam", encoder=None, seed=0):
    tf.keras.utils.set_random_seed(seed)
    trainer = build_method(method, encoder or conv_encoder(), num_steps=20, weight_decay=0.01, **SMALL)
    if decay is not None:
        trainer.keep_average(decay)
    trainer.compile(optimizer=tf.keras.optimizers.SGD(0.02, momentum=0.9))
    return trainer


def numpys_average(weights_by_step, decay):
    """`weights_by_step[0]` is before training; float64 lists of arrays."""
    average = [weight.copy() for weight in weights_by_step[0]]
    for step, weights in enumerate(weights_by_step[1:]):
        share = min(decay, (1 + step) / (10 + step))
        average = [share * old + (1 - share) * new for old, new in zip(average, weights)]
    return average


@pytest.mark.parametrize("method", ["simsiam", "simclr", "vicreg", "byol"])
@pytest.mark.parametrize("decay", [0.25, 0.99])
def test_it_is_numpys_over_weights_and_statistics(method, decay):
    trainer, batch = averaging(decay, method), view_pair(side=8)
    weights = [[weight.astype(np.float64) for weight in trainer.encoder.get_weights()]]
    for _ in range(6):
        fit(trainer, batch, 1)
        weights.append([weight.astype(np.float64) for weight in trainer.encoder.get_weights()])
        expected = numpys_average(weights, decay)
        # Kernel, scale, offset, running mean and variance.
        assert len(expected) == len(trainer.average.values()) == 5
        for found, by_hand in zip(trainer.average.values(), expected):
            np.testing.assert_allclose(found, by_hand, rtol=1e-5, atol=1e-7)
    assert all(np.abs(new - old).max() > 1e-6 for old, new in zip(weights[-1], trainer.average.values()))


def test_training_does_not_notice_it():
    ends = []
    for decay in (None, 0.9):
        trainer = averaging(decay)
        fit(trainer, view_pair(side=8), 5)
        ends.append([weight.numpy() for weight in trainer.trainable_variables])
    assert len(ends[0]) == len(ends[1]) > 5
    for plain, averaged in zip(*ends):
        np.testing.assert_array_equal(plain, averaged)


def test_random_weights_are_left_behind_in_the_first_steps():
    """The share of the start that is left, with 0.99 from the first step on and with the ramp."""
    shares = [np.prod([float(decay_at(tf.constant(step), 0.99)) for step in range(steps)]) for steps in (10, 46)]
    # (1/10) (2/11) ... (10/19), and 9 factors in 10 k / (k + 9) cancel: 9! 46! / 55!.
    assert shares[0] == pytest.approx(1 / 92378, rel=1e-4) and shares[1] < 1e-8 < 0.99**46
    assert [float(decay_at(tf.constant(step), 0.99)) for step in (0, 890, 10**6)] == pytest.approx([0.1, 0.99, 0.99])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_in_half_precision_it_is_of_the_float32_weights(policy):
    with precision(policy):
        trainer, batch = averaging(0.9), view_pair(side=8)
        assert {variable.dtype for variable in trainer.average.averages} == {tf.float32}
        weights = [trainer.encoder.get_weights()]
        for _ in range(8):
            fit(trainer, batch, 1)
            weights.append(trainer.encoder.get_weights())
        # A step is a thousandth of a weight, and float16 rounds to as much.
        for found, by_hand in zip(trainer.average.values(), numpys_average(weights, 0.9)):
            np.testing.assert_allclose(found, by_hand, rtol=1e-5, atol=1e-7)


def test_a_checkpoint_holds_it_and_its_count_of_steps(tmp_path):
    """Two steps, and two more from a checkpoint in another trainer, are four steps."""
    batch, trainers = view_pair(side=8), []
    for seed in (0, 1):
        trainer = averaging(0.99, seed=seed)
        trainer.optimizer.build(trainer.trainable_variables)
        checkpoint = tf.train.Checkpoint(model=trainer, optimizer=trainer.optimizer)
        if not trainers:
            fit(trainer, batch, 2)
            path = checkpoint.write(str(tmp_path / "ckpt"))
        else:
            checkpoint.read(path).assert_existing_objects_matched()
        fit(trainer, batch, 2)
        trainers.append(trainer)
    assert int(trainers[1].average.steps) == 4
    for found, other in zip(*(trainer.average.values() for trainer in trainers)):
        np.testing.assert_array_equal(found, other)


def test_no_optimizer_knows_it():
    trainer = averaging(0.9)
    own = {id(variable) for variable in trainer.average.averages}
    assert own <= {id(variable) for variable in trainer.non_trainable_variables}
    assert not own & {id(variable) for variable in trainer.trainable_variables}


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(UserError, match="--ema=.* must be the share of the average that stays in a step"):
        averaging(decay)
