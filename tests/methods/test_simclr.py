import pytest
import tensorflow as tf
from reference import simclr_reference
from small_trainers import (
    HIDDEN,
    PROJECTIONS,
    assert_one_step_follows,
    fit,
    float64_views,
    float64_weights,
    linear_encoder,
    put_random,
    view_pair,
)

from bitkeras.methods import SimCLR

TEMPERATURE = 0.3


def trainer_on_fixed_weights(**kwargs):
    sizes = {"num_projections": PROJECTIONS, "num_hidden": HIDDEN}
    trainer = SimCLR(linear_encoder(), temperature=TEMPERATURE, **sizes, **kwargs)
    put_random(trainer.trainable_variables)
    return trainer


def weights_of(trainer):
    return float64_weights(trainer.encoder, projector=trainer.projector)


def test_loss_is_algorithm_1():
    trainer, batch = trainer_on_fixed_weights(), view_pair()
    expected = simclr_reference.loss(weights_of(trainer), *float64_views(batch), TEMPERATURE)
    assert float(trainer.view_loss(**batch, training=True)) == pytest.approx(expected, abs=2e-5)


def test_one_step_is_the_gradient_of_algorithm_1():
    trainer, batch = trainer_on_fixed_weights(weight_decay=0.1), view_pair()
    trainer.compile(optimizer=tf.keras.optimizers.SGD(0.1))
    before, views = weights_of(trainer), float64_views(batch)
    fit(trainer, batch, 1)
    assert_one_step_follows(
        lambda weights: simclr_reference.loss(weights, *views, TEMPERATURE),
        before,
        weights_of(trainer),
        lr=0.1,
        weight_decay=0.1,
    )


def test_head_has_the_papers_sizes():
    trainer = SimCLR(linear_encoder())
    layers = {layer.name: layer for layer in trainer.projector.layers}
    assert (layers["fc1"].units, layers["fc2"].units) == (trainer.encoder.output_shape[-1], 128)
    assert trainer.projector.layers[-1] is layers["bn2"] and layers["bn2"].scale and not layers["bn2"].center
    assert trainer.temperature == 0.1
