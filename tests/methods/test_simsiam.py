import numpy as np
import pytest
import tensorflow as tf
from reference import simsiam_reference
from small_trainers import HIDDEN, PROJECTIONS, conv_encoder, fit, linear_encoder, precision, view_pair

from bitkeras.evaluation.collapse import feature_spread
from bitkeras.methods import METHODS, SimSiam
from bitkeras.schedules import undo, warmup_cosine


def trainer_on_fixed_weights(**kwargs):
    """A SimSiam whose norms have scales and offsets other than 1 and 0, and the same weights in float64."""
    trainer = SimSiam(linear_encoder(), num_projections=PROJECTIONS, num_predictor_hidden=HIDDEN, **kwargs)
    rng = np.random.default_rng(1)
    for variable in trainer.trainable_variables:
        variable.assign(rng.normal(0.3, 0.6, variable.shape))
    return trainer, weights_of(trainer)


def weights_of(trainer):
    layer, head = trainer.projector.get_layer, trainer.predictor.get_layer
    variables = {"encoder": trainer.encoder.weights[0], "h1": head("fc1").kernel, "h2": head("fc2").kernel}
    variables |= {f"f{i}": layer(f"fc{i}").kernel for i in (1, 2, 3)}
    variables |= {f"gamma{i}": layer(f"bn{i}").gamma for i in (1, 2)}
    variables |= {f"beta{i}": layer(f"bn{i}").beta for i in (1, 2)}
    variables |= {"gamma_h": head("bn1").gamma, "beta_h": head("bn1").beta, "bias_h": head("fc2").bias}
    assert len(variables) == len(trainer.trainable_variables)
    return {name: variable.numpy().astype(np.float64) for name, variable in variables.items()}


def test_loss_is_the_papers_pseudo_code():
    trainer, weights = trainer_on_fixed_weights()
    batch = view_pair()
    expected = simsiam_reference.loss(weights, *(views.numpy().astype(np.float64) for views in batch.values()))
    assert float(trainer.view_loss(**batch, training=True)) == pytest.approx(expected, abs=1e-5)


def test_one_step_is_the_gradient_of_the_pseudo_code_plus_coupled_decay():
    decay, lr = 0.1, 0.5
    trainer, before = trainer_on_fixed_weights(weight_decay=decay)
    trainer.compile(optimizer=tf.keras.optimizers.SGD(lr))
    batch = view_pair()
    fit(trainer, batch, 1)
    views = [views.numpy().astype(np.float64) for views in batch.values()]
    for name, after in weights_of(trainer).items():
        gradient = simsiam_reference.gradient(before, *views, name) + decay * before[name]
        np.testing.assert_allclose(before[name] - after, lr * gradient, atol=2e-5, err_msg=name)


def test_momentum_and_decay_are_pytorchs():
    """v = 0.9 v + (g + wd w); w -= lr v, by hand over three steps at a constant rate."""
    decay, lr = 0.05, 0.2
    trainer, weights = trainer_on_fixed_weights(weight_decay=decay)
    trainer.compile(optimizer=tf.keras.optimizers.SGD(lr, momentum=0.9))
    batch = view_pair()
    views = [views.numpy().astype(np.float64) for views in batch.values()]
    velocity = {name: np.zeros_like(value) for name, value in weights.items()}
    for _ in range(3):
        gradients = {name: simsiam_reference.gradient(weights, *views, name) for name in weights}
        velocity = {name: 0.9 * velocity[name] + gradients[name] + decay * weights[name] for name in weights}
        weights = {name: weights[name] - lr * velocity[name] for name in weights}
    fit(trainer, batch, 3)
    for name, after in weights_of(trainer).items():
        np.testing.assert_allclose(after, weights[name], atol=2e-4, err_msg=name)


def test_fixed_predictor_rate_leaves_the_predictor_out_of_the_schedule():
    """Two steps, by hand: the rest at a rate that falls from 0.5 to 0.05, the predictor at 0.5 in both."""
    schedule = tf.keras.optimizers.schedules.PiecewiseConstantDecay([0], [0.5, 0.05])
    trainer, weights = trainer_on_fixed_weights(weight_decay=0.0, predictor_scale=undo(schedule, 0.5))
    trainer.compile(optimizer=tf.keras.optimizers.SGD(schedule))
    batch = view_pair()
    views = [views.numpy().astype(np.float64) for views in batch.values()]
    for rate in (0.5, 0.05):
        gradients = {name: simsiam_reference.gradient(weights, *views, name) for name in weights}
        weights = {name: weights[name] - (0.5 if "h" in name else rate) * gradients[name] for name in weights}
    fit(trainer, batch, 2)
    for name, after in weights_of(trainer).items():
        np.testing.assert_allclose(after, weights[name], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_a_step_moves_every_weight(policy):
    with precision(policy):
        tf.keras.utils.set_random_seed(0)
        trainer = SimSiam(conv_encoder(), num_projections=8, num_predictor_hidden=4, weight_decay=0.0)
        trainer.compile(optimizer=tf.keras.optimizers.SGD(0.1, momentum=0.9))
        scaled = isinstance(trainer.optimizer, tf.keras.mixed_precision.LossScaleOptimizer)
        assert scaled == (policy == "mixed_float16")
        before = [variable.numpy() for variable in trainer.trainable_variables]
        # The loss scale starts at 32,768; the first steps may overflow, halve it and move nothing.
        history = fit(trainer, view_pair(side=8), 12).history
        assert -1 <= history["loss"][0] <= 1
        moved = [np.abs(new.numpy() - old).max() for old, new in zip(before, trainer.trainable_variables)]
        assert all(0 < distance < 5 for distance in moved), list(moved)


def test_half_precision_follows_float32():
    """Same weights, same batch: the update under a loss scale is the plain one to half precision's rounding."""
    updates = {}
    for policy in ("float32", "mixed_float16"):
        with precision(policy):
            trainer, before = trainer_on_fixed_weights(weight_decay=0.01)
            trainer.compile(optimizer=tf.keras.optimizers.SGD(0.5))
            fit(trainer, view_pair(), 1)
            after = weights_of(trainer)
            updates[policy] = np.concatenate([(after[name] - before[name]).ravel() for name in sorted(before)])
    np.testing.assert_allclose(updates["mixed_float16"], updates["float32"], atol=0.01)


def test_batch_norm_statistics_move_in_training_only():
    trainer = SimSiam(conv_encoder(), num_projections=8, num_predictor_hidden=4)
    trainer.compile(optimizer=tf.keras.optimizers.SGD(0.1))
    statistics = [v for v in trainer.non_trainable_variables if "moving" in v.name]
    assert len(statistics) == 2 * 5
    batch = tf.data.Dataset.from_tensors(view_pair(side=8))
    before = [v.numpy() for v in statistics]
    weights = [v.numpy() for v in trainer.trainable_variables]
    trainer.evaluate(batch, verbose=0)
    for old, new in zip(before + weights, statistics + trainer.trainable_variables):
        np.testing.assert_array_equal(old, new)
    trainer.fit(batch, verbose=0)
    assert all(np.abs(new.numpy() - old).max() > 0 for old, new in zip(before, statistics))


def test_each_view_is_normalised_by_its_own_statistics():
    trainer = SimSiam(conv_encoder(), num_projections=8, num_predictor_hidden=4)
    convolution, norm = trainer.encoder.layers[1:3]
    batch = view_pair(side=8)
    batch["views_b"] += 3.0
    running = np.zeros(16)
    for views in batch.values():
        running = 0.9 * running + 0.1 * convolution(views).numpy().mean(axis=(0, 1, 2))
    trainer.view_loss(**batch, training=True)
    np.testing.assert_allclose(norm.moving_mean, running, rtol=1e-4, atol=1e-5)


class WithoutStopGradient(SimSiam):
    def target(self, projections):
        return projections


def train_on_noisy_squares(method):
    """(last loss, spread of backbone features, RankMe of projections) after 120 steps on 256 images of four colours."""
    tf.keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, [256, 2, 2, 3]).repeat(4, axis=1).repeat(4, axis=2)
    noisy = {name: (images + rng.normal(0, 0.1, images.shape)).astype(np.float32) for name in ("views_a", "views_b")}
    pixels = tf.keras.Input([8, 8, 3])
    x = pixels
    for _ in range(2):
        # No batch norm here: behind one, collapsed features would look alive.
        x = tf.keras.layers.Conv2D(16, 3, activation="relu")(x)
    encoder = tf.keras.Model(pixels, tf.keras.layers.GlobalAveragePooling2D()(x))
    trainer = method(encoder, num_projections=32, num_predictor_hidden=8, weight_decay=1e-3)
    trainer.compile(optimizer=tf.keras.optimizers.SGD(warmup_cosine(0.2, num_steps=120), momentum=0.9))
    data = tf.data.Dataset.from_tensor_slices(noisy).shuffle(256, seed=0).batch(128)
    loss = trainer.fit(data, epochs=60, verbose=0).history["loss"][-1]
    features = encoder(images)
    projections = trainer.projector(features, training=True)
    return loss, feature_spread(features.numpy())["spread"], feature_spread(projections.numpy())["rankme"]


def test_without_stop_gradient_the_loss_falls_to_minus_one_and_features_collapse():
    loss, spread, rank = train_on_noisy_squares(SimSiam)
    collapsed_loss, collapsed_spread, collapsed_rank = train_on_noisy_squares(WithoutStopGradient)
    assert collapsed_loss < -0.99 < -0.96 < loss
    assert collapsed_spread < 0.7 * spread
    assert collapsed_rank < 0.6 * rank


def test_table_names_the_method():
    assert METHODS["simsiam"] is SimSiam


def test_heads_have_the_papers_sizes():
    trainer = SimSiam(conv_encoder())
    projector, predictor = trainer.projector, trainer.predictor
    assert [projector.get_layer(f"fc{i}").units for i in (1, 2, 3)] == [2048] * 3
    assert [predictor.get_layer(f"fc{i}").units for i in (1, 2)] == [512, 2048]
    last = projector.get_layer("bn3")
    assert projector.layers[-1] is last and not last.center and not last.scale
    assert predictor.get_layer("fc2").use_bias and predictor.layers[-1] is predictor.get_layer("fc2")
    assert not any(projector.get_layer(f"fc{i}").use_bias for i in (1, 2, 3))
    norms = [layer for head in (projector, predictor) for layer in head.layers if "bn" in layer.name]
    assert {(layer.epsilon, layer.momentum) for layer in norms} == {(1e-5, 0.9)}
