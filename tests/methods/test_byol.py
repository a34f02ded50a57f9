import numpy as np
import pytest
import tensorflow as tf
from reference import byol_reference
from small_trainers import (
    HIDDEN,
    PROJECTIONS,
    assert_one_step_follows,
    conv_encoder,
    fit,
    float64_views,
    float64_weights,
    linear_encoder,
    precision,
    put_random,
    view_pair,
)

from bitkeras.backbones.bit_resnet import Architecture, build_bit_resnet
from bitkeras.errors import UserError
from bitkeras.methods import BYOL
from bitkeras.methods.byol import copied, following_rate

SIZES = {"num_projections": PROJECTIONS, "num_hidden": HIDDEN, "num_predictor_hidden": HIDDEN + 1}


def trainer_on_fixed_weights(num_steps=100, **kwargs):
    """A BYOL with norms that do something, and a target that is not the online network."""
    trainer = BYOL(linear_encoder(), num_steps=num_steps, **SIZES, **kwargs)
    put_random(trainer.trainable_variables, seed=1)
    put_random([*trainer.target.encoder.trainable_weights, *trainer.target.projector.trainable_weights], seed=2)
    return trainer


def online(trainer):
    return float64_weights(trainer.encoder, projector=trainer.projector, predictor=trainer.predictor)


def target(trainer):
    return float64_weights(trainer.target.encoder, projector=trainer.target.projector)


def test_loss_is_the_squared_distance_of_unit_vectors():
    trainer, batch = trainer_on_fixed_weights(), view_pair()
    expected = byol_reference.loss(online(trainer), target(trainer), *float64_views(batch))
    assert float(trainer.view_loss(**batch, training=True)) == pytest.approx(expected, abs=1e-5)


def test_one_step_is_the_gradient_with_the_target_held():
    trainer, batch = trainer_on_fixed_weights(weight_decay=0.1), view_pair()
    trainer.compile(optimizer=tf.keras.optimizers.SGD(0.5))
    before, held = online(trainer), target(trainer)
    fit(trainer, batch, 1)
    views = float64_views(batch)
    assert_one_step_follows(
        lambda weights: byol_reference.loss(weights, held, *views), before, online(trainer), lr=0.5, weight_decay=0.1
    )


def test_target_is_the_moving_average_by_the_papers_tau():
    num_steps, base = 4, 0.7
    trainer, batch = trainer_on_fixed_weights(num_steps, base_tau=base), view_pair()
    trainer.compile(optimizer=tf.keras.optimizers.SGD(0.3, momentum=0.9))
    expected = target(trainer)
    # One step more than there are: tau is 1 then, and stays there.
    for step in range(num_steps + 2):
        fit(trainer, batch, 1)
        tau = byol_reference.tau(min(step, num_steps), num_steps, base)
        expected = byol_reference.moved(expected, online(trainer), tau)
        for name, weight in target(trainer).items():
            np.testing.assert_allclose(weight, expected[name], atol=2e-6, err_msg=f"{step} {name}")


def test_tau_starts_at_its_base_and_ends_at_one():
    rates = [float(following_rate(tf.constant(k), num_steps=200, base_tau=0.996)) for k in (-1, 0, 100, 200, 201)]
    assert rates == pytest.approx([0.004, 0.004, 0.002, 0.0, 0.0], abs=1e-9)


def test_a_tau_that_is_no_share_is_refused():
    with pytest.raises(UserError, match="--base_tau is 1.2; pass the share"):
        BYOL(linear_encoder(), num_steps=10, base_tau=1.2)


def test_target_starts_equal_and_no_optimizer_knows_it():
    trainer = BYOL(conv_encoder(), num_steps=10, **SIZES)
    for copy, model in ((trainer.target.encoder, trainer.encoder), (trainer.target.projector, trainer.projector)):
        for weight, original in zip(copy.weights, model.weights):
            np.testing.assert_array_equal(weight, original)
    own = {id(variable) for variable in (*trainer.target.encoder.weights, *trainer.target.projector.weights)}
    assert not own & {id(variable) for variable in trainer.trainable_variables}
    assert own <= {id(variable) for variable in trainer.non_trainable_variables}
    assert len(trainer.weights) == len({id(variable) for variable in trainer.weights})
    trainer.compile(optimizer=tf.keras.optimizers.SGD(0.1, momentum=0.9))
    fit(trainer, view_pair(side=8), 1)
    momenta = [v for v in trainer.optimizer.variables if len(v.shape) > 0]
    assert len(momenta) == len(trainer.trainable_variables)


def test_targets_batch_norm_uses_the_batch_and_keeps_statistics_of_its_own():
    trainer, batch = BYOL(conv_encoder(), num_steps=10, **SIZES), view_pair(side=8)
    put_random(trainer.target.encoder.trainable_weights)
    # A convolution without a bias and padding carries a constant through, and the batch's mean takes it away.
    plain, brighter = (trainer.target.projections(batch["views_a"] + by, training=True) for by in (0.0, 2.0))
    np.testing.assert_allclose(plain, brighter, atol=1e-4)
    trainer = BYOL(conv_encoder(), num_steps=10, **SIZES)
    put_random(trainer.target.encoder.trainable_weights)
    convolution, norm = trainer.target.encoder.layers[1:3]
    running = np.zeros(16)
    for views in batch.values():
        running = 0.9 * running + 0.1 * convolution(views).numpy().mean(axis=(0, 1, 2))
    trainer.view_loss(**batch, training=True)
    np.testing.assert_allclose(norm.moving_mean, running, rtol=1e-4, atol=1e-5)
    assert np.abs(norm.moving_mean - trainer.encoder.layers[2].moving_mean).max() > 1e-3


def test_no_gradient_goes_through_the_target():
    trainer = trainer_on_fixed_weights()
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(trainer.target.encoder.trainable_weights)
        loss = trainer.view_loss(**view_pair(), training=True)
    assert tape.gradient(loss, trainer.target.encoder.trainable_weights) == [None]


@pytest.mark.parametrize("norm, standardized", [("group", None), ("batch", None), ("batch", True)])
def test_a_copy_of_a_bit_network_computes_the_same(norm, standardized):
    network = build_bit_resnet(Architecture((1, 1), 0.125), name="tiny", norm=norm, weight_standardization=standardized)
    rng = np.random.default_rng(0)
    network.set_weights([rng.uniform(0.1, 1.0, weight.shape) for weight in network.weights])
    copy = copied(network)
    images = tf.constant(rng.uniform(-1, 1, [2, 16, 16, 3]), tf.float32)
    np.testing.assert_array_equal(copy(images, training=False), network(images, training=False))
    assert [weight.name for weight in copy.weights] == [weight.name for weight in network.weights]
    copy.set_weights([0 * weight for weight in copy.get_weights()])
    assert all(np.abs(weight).max() > 0 for weight in network.get_weights())


def test_a_copy_is_synchronized_over_replicas_where_the_network_is():
    features = tf.keras.Input([3])
    norms = [tf.keras.layers.BatchNormalization(synchronized=synchronized) for synchronized in (True, False)]
    copy = copied(tf.keras.Model(features, norms[1](norms[0](features))))
    assert [layer.synchronized for layer in copy.layers[1:]] == [True, False]


def test_a_copy_has_the_precision_of_the_network():
    with precision("mixed_float16"):
        network = build_bit_resnet(Architecture((1,), 0.125), name="tiny", norm="group")
    copy = copied(network)
    policies = [layer.dtype_policy.name for layer in network.layers]
    assert [layer.dtype_policy.name for layer in copy.layers] == policies
    assert {"mixed_float16", "float32"} <= set(policies)
    assert {weight.dtype for weight in copy.weights} == {tf.float32}
