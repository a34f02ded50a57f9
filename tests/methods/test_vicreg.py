import pytest
import tensorflow as tf
from reference import vicreg_reference
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

from bitkeras.methods import VICReg


def trainer_on_fixed_weights(**kwargs):
    trainer = VICReg(linear_encoder(), num_projections=PROJECTIONS, num_hidden=HIDDEN, **kwargs)
    put_random(trainer.trainable_variables)
    return trainer


def weights_of(trainer):
    return float64_weights(trainer.encoder, projector=trainer.projector)


def test_loss_is_that_of_the_released_code():
    trainer, batch = trainer_on_fixed_weights(), view_pair()
    expected = vicreg_reference.loss(weights_of(trainer), *float64_views(batch))
    assert float(trainer.view_loss(**batch, training=True)) == pytest.approx(expected, rel=1e-5)


def test_one_step_is_the_gradient_of_the_three_terms():
    trainer, batch = trainer_on_fixed_weights(weight_decay=0.1), view_pair()
    trainer.compile(optimizer=tf.keras.optimizers.SGD(0.01))
    before, views = weights_of(trainer), float64_views(batch)
    fit(trainer, batch, 1)
    assert_one_step_follows(
        lambda weights: vicreg_reference.loss(weights, *views), before, weights_of(trainer), lr=0.01, weight_decay=0.1
    )


def test_expander_has_three_layers_of_one_width_and_no_norm_at_its_end():
    projector = VICReg(linear_encoder(), num_projections=7).projector
    assert [projector.get_layer(f"fc{i}").units for i in (1, 2, 3)] == [7] * 3
    assert projector.layers[-1] is projector.get_layer("fc3") and not projector.layers[-1].use_bias
