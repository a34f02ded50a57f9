"""Norms of projectors and predictors, against the same heads in NumPy and against what a norm of one image is."""

import numpy as np
import pytest
import tensorflow as tf
from small_trainers import float64_weights, linear_encoder, precision, put_random, view_pair

from bitkeras.errors import UserError
from bitkeras.methods import METHODS, build_method

SMALL = {"num_projections": 4, "num_hidden": 3}
EPSILON = 1e-5


def small(method, encoder, norm):
    return build_method(method, encoder, num_steps=4, weight_decay=0.0, head_norm=norm, **SMALL)


def heads_of(trainer):
    return [head for head in (trainer.projector, getattr(trainer, "predictor", None)) if head is not None]


def layer_norm(x, gamma=1.0, beta=0.0):
    deviation = np.sqrt(x.var(axis=1, keepdims=True) + EPSILON)
    return gamma * (x - x.mean(axis=1, keepdims=True)) / deviation + beta


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_only_batch_norm_lets_an_image_see_the_others_of_its_batch(method, norm):
    trainer = small(method, linear_encoder(), norm)
    put_random(trainer.trainable_variables)
    views = view_pair()["views_a"]

    def through_all_heads(views):
        x = trainer.encoder(views)
        for head in heads_of(trainer):
            x = head(x, training=True)
        return x.numpy()

    alone, among_others = through_all_heads(views[:2]), through_all_heads(views)[:2]
    assert np.allclose(alone, among_others, atol=1e-5) == (norm != "batch")
    has_statistics = any("moving" in weight.name for head in heads_of(trainer) for weight in head.weights)
    assert has_statistics == (norm == "batch")


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_simsiams_heads_are_those_of_numpy(norm):
    trainer = small("simsiam", linear_encoder(), norm)
    put_random(trainer.trainable_variables)
    weights = float64_weights(trainer.encoder, projector=trainer.projector, predictor=trainer.predictor)

    def linear(x, name):
        return x @ weights[name] + weights.get(f"{name}.bias", 0.0)

    def hidden(x, head, layer):
        x = linear(x, f"{head}.fc{layer}")
        if norm == "layer":
            x = layer_norm(x, *(weights[f"{head}.ln{layer}.{which}"] for which in ("gamma", "beta")))
        return np.maximum(x, 0.0)

    views = view_pair()["views_a"].numpy().astype(np.float64)
    x = views.reshape(len(views), -1) @ weights["encoder"]
    z = linear(hidden(hidden(x, "projector", 1), "projector", 2), "projector.fc3")
    z = z if norm == "none" else layer_norm(z)
    p = linear(hidden(z, "predictor", 1), "predictor.fc2")
    found = trainer.projections(tf.constant(views, tf.float32), training=True)
    np.testing.assert_allclose(found, z, atol=1e-4)
    np.testing.assert_allclose(trainer.predictor(found, training=True), p, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_without_a_norm_every_layer_that_lost_it_has_a_bias(method):
    published, bare = (small(method, linear_encoder(), norm) for norm in ("batch", "none"))
    for head, other in zip(heads_of(published), heads_of(bare)):
        for layer in head.layers:
            if layer.name.startswith("fc"):
                has_norm = any(one.name == layer.name.replace("fc", "bn") for one in head.layers)
                assert other.get_layer(layer.name).use_bias == (has_norm or layer.use_bias)


def test_in_half_precision_large_features_stay_numbers():
    """Their squares are none in float16."""
    with precision("mixed_float16"):
        trainer = small("simsiam", linear_encoder(), "layer")
        projections = trainer.projector(tf.fill([4, 5], tf.constant(3000.0, tf.float16)), training=True)
    assert np.isfinite(projections.numpy()).all()


def test_a_norm_that_there_is_not_is_refused():
    with pytest.raises(UserError, match="--head_norm is group; pass one of batch, layer, none"):
        small("simsiam", linear_encoder(), "group")
