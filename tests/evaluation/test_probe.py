import itertools

import numpy as np
import pytest
import tensorflow as tf
from reference import evaluation_reference as reference

from bitkeras.evaluation.focal import focal_loss
from bitkeras.evaluation.probe import probe_probabilities, train_linear_probe


def clusters(count, classes=3, dims=5, distance=4.0, seed=0):
    """Gaussian clusters whose features have very different means and deviations."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, count - classes)])
    features = rng.normal(0, 1, [count, dims]) + distance * np.eye(classes, dims)[labels]
    return (features * np.geomspace(0.01, 100, dims) + np.linspace(-20, 50, dims)).astype(np.float32), labels


def probe(train, val, classes=3, **settings):
    return train_linear_probe(*train, *val, num_classes=classes, **{"epochs": 8, "batch_size": 32, **settings})


def predictions_of(result, features):
    """The class of the largest logit for each trial, in plain float64."""
    return [(features.astype(float) @ k.astype(float) + b).argmax(1) for k, b in zip(result.kernels, result.biases)]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 4.0])
@pytest.mark.parametrize("alpha", [None, [0.25, 2.0, 1.0, 0.5]])
def test_focal_loss_is_the_formula(gamma, alpha):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(0, 3, [20, 4]).astype(np.float32), rng.integers(0, 4, 20)
    losses = focal_loss(labels, tf.constant(logits), gamma=gamma, class_weights=alpha)
    expected = reference.focal_loss(labels, logits, gamma, alpha)
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-6)
    stacked = focal_loss(labels.reshape(2, 10), tf.reshape(logits, [2, 10, 4]), gamma=gamma, class_weights=alpha)
    np.testing.assert_allclose(np.ravel(stacked), losses, rtol=1e-6)


def test_focal_loss_with_gamma_zero_is_cross_entropy():
    rng = np.random.default_rng(1)
    logits, labels = tf.constant(rng.normal(0, 20, [50, 6]), tf.float32), rng.integers(0, 6, 50)
    expected = tf.keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    np.testing.assert_allclose(focal_loss(labels, logits, gamma=0.0), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 4.0])
def test_gradient_of_focal_loss_is_that_of_finite_differences(gamma):
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(0, 2, [6, 3]), rng.integers(0, 3, 6)
    variable = tf.Variable(logits)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(focal_loss(labels, variable, gamma=gamma))
    expected = np.zeros_like(logits)
    for index in np.ndindex(*logits.shape):
        moved = np.zeros_like(logits)
        moved[index] = 1e-6
        ends = [reference.focal_loss(labels, logits + sign * moved, gamma).sum() for sign in (1, -1)]
        expected[index] = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(tape.gradient(loss, variable), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 4.0])
@pytest.mark.parametrize("size", [0.0, 40.0, 1e4])
def test_focal_loss_of_certain_predictions_has_a_finite_gradient(gamma, size):
    logits = tf.Variable([[size, 0.0], [0.0, size]])
    with tf.GradientTape() as tape:
        losses = focal_loss([0, 0], logits, gamma=gamma)
    gradient = tape.gradient(losses, logits).numpy()
    assert np.isfinite(losses).all() and np.isfinite(gradient).all()
    if size:
        assert losses.numpy()[0] == pytest.approx(0, abs=1e-6) and losses.numpy()[1] == pytest.approx(size)
        np.testing.assert_allclose(gradient[1], [-1, 1], atol=1e-5)


def test_probabilities_are_the_softmax_of_one_trial_or_all():
    rng = np.random.default_rng(3)
    features, kernels, biases = (rng.normal(0, 1, s).astype(np.float32) for s in ([7, 5], [2, 5, 3], [2, 3]))
    found = probe_probabilities(features, kernels, biases)
    assert found.shape == (2, 7, 3) and found.dtype == np.float32
    for trial in range(2):
        expected = tf.nn.softmax(features @ kernels[trial] + biases[trial])
        np.testing.assert_allclose(found[trial], expected, rtol=1e-5)
        np.testing.assert_allclose(probe_probabilities(features, kernels[trial], biases[trial]), expected, rtol=1e-5)
    assert np.isfinite(probe_probabilities(1e6 * features, kernels, biases)).all()


RATES, DECAYS = (0.01, 0.05), (0.0, 8.0)


@pytest.mark.parametrize("distance", [1.0, 12.0])
def test_weights_are_those_of_a_plain_adamw(distance):
    # Two rates, two decays and two trials side by side must not touch each other; 50 examples leave a batch of 2.
    # Clusters far apart make several epochs and settings equally good, of which the first counts.
    (features, labels), val = clusters(50, distance=distance), clusters(60, distance=distance, seed=1)
    settings = {"epochs": 4, "batch_size": 16, "focal_gamma": 0.0, "trials": 2, "seed": 9}
    result = probe((features, labels), val, lr_grid=RATES, weight_decay_grid=DECAYS, **settings)
    mean, std = features.astype(np.float64).mean(axis=0), features.astype(np.float64).std(axis=0)
    scores = {}
    for rate, decay, trial in itertools.product(RATES, DECAYS, range(2)):
        generator = np.random.default_rng([9, trial, 1])
        start = np.random.default_rng([9, trial]).normal(0, 0.01, [5, 3])
        orders = [generator.permutation(50) for _ in range(4)]
        schedule = [0.5 * (1 + np.cos(np.pi * epoch / 4)) for epoch in range(4)]
        args = (start, np.zeros(3), (features - mean) / std, labels, orders, schedule, rate, decay, 16)
        epochs = reference.adamw(*args)
        guesses = [((val[0] - mean) / std @ k + b).argmax(axis=1) for k, b in epochs]
        scores[rate, decay, trial] = [reference.balanced_accuracy(val[1], guess) for guess in guesses], epochs
    best = max(itertools.product(RATES, DECAYS), key=lambda pair: sum(max(scores[(*pair, t)][0]) for t in range(2)))
    assert (result.lr, result.weight_decay) == pytest.approx(best)
    for trial in range(2):
        history, epochs = scores[(*best, trial)]
        np.testing.assert_allclose(result.val_history[trial], history, atol=1e-6)
        assert result.best_epochs[trial] == 1 + int(np.argmax(history))
        kernel, bias = epochs[int(np.argmax(history))]
        np.testing.assert_allclose(result.kernels[trial] * std[:, None], kernel, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(mean @ result.kernels[trial] + result.biases[trial], bias, rtol=1e-3, atol=1e-3)


def test_every_pair_of_the_grid_is_trained_as_it_would_be_alone():
    train, val = clusters(60, distance=1.0), clusters(50, distance=1.0, seed=1)
    chosen = probe(train, val, lr_grid=RATES, weight_decay_grid=DECAYS)
    alone = {
        pair: probe(train, val, lr_grid=pair[:1], weight_decay_grid=pair[1:])
        for pair in itertools.product(RATES, DECAYS)
    }
    best = max(alone, key=lambda pair: alone[pair].val_history.max(axis=1).mean())
    # Else this test would pass with a decay that is read nowhere.
    assert len({result.kernels.tobytes() for result in alone.values()}) == 4
    assert (chosen.lr, chosen.weight_decay) == best
    np.testing.assert_allclose(chosen.val_history, alone[best].val_history, atol=1e-6)
    np.testing.assert_allclose(chosen.kernels, alone[best].kernels, rtol=1e-3, atol=1e-5)


def test_weight_decay_is_chosen_where_it_helps():
    # 150 examples of 60 features, noise but for three: what is learned of the others must be forgotten again.
    train, val, test = (clusters(count, dims=60, distance=2.5, seed=s) for s, count in enumerate((150, 400, 2000)))
    settings = {"epochs": 60, "lr_grid": (0.1,), "batch_size": 150, "focal_gamma": 0.0}
    chosen = probe(train, val, weight_decay_grid=(0.0, 1.0, 10.0), **settings)
    assert chosen.weight_decay == 1
    without = probe(train, val, weight_decay_grid=(0.0,), **settings)
    scores = [
        np.mean([reference.balanced_accuracy(test[1], guess) for guess in predictions_of(result, test[0])])
        for result in (chosen, without)
    ]
    assert scores[0] > scores[1] + 0.02


def test_a_choice_at_the_end_of_its_grid_is_told():
    train, val = clusters(90, distance=2.0), clusters(90, distance=2.0, seed=1)
    tiny, sensible = 1e-9, 0.03
    for lr_grid, decay_grid, said in (
        ((tiny, sensible), (0.0,), ["the best rate, 0.03, is the largest of the grid"]),
        ((sensible, tiny), (0.0,), ["the best rate, 0.03, is the largest of the grid"]),
        ((sensible, 1e6), (0.0,), ["the best rate, 0.03, is the smallest of the grid"]),
        ((tiny, sensible, 1e6), (0.0,), []),
        ((sensible,), (1e-3, 1e4), ["the best weight decay, 0.001, is the smallest of the grid"]),
        # Nothing is below no decay, and one value is no grid.
        ((sensible,), (0.0, 1e4), []),
        ((sensible,), (0.1,), []),
        # Equally good: rates that change nothing.
        ((1e-12, 1e-11), (0.1,), []),
    ):
        result = probe(train, val, lr_grid=lr_grid, weight_decay_grid=decay_grid)
        assert list(result.grid_edges) == said, (lr_grid, decay_grid)


def test_separable_features_are_learned_at_any_scale():
    train, val, test = (clusters(240, distance=6.0, seed=seed) for seed in range(3))
    result = probe(train, val, epochs=20, lr_grid=(0.01, 0.1))
    for guess in predictions_of(result, test[0]):
        assert reference.balanced_accuracy(test[1], guess) > 0.95


def test_shuffled_labels_score_chance():
    train, val = clusters(300), clusters(300, seed=1)
    test = clusters(900, seed=2)[0], np.random.default_rng(5).integers(0, 3, 900)
    shuffled = train[0], np.random.default_rng(4).permutation(train[1])
    for guess in predictions_of(probe(shuffled, val), test[0]):
        assert abs(reference.balanced_accuracy(test[1], guess) - 1 / 3) < 0.08


def test_val_scores_are_those_of_the_returned_weights_on_raw_features():
    train, val = clusters(120, distance=1.5), clusters(90, distance=1.5, seed=1)
    result = probe(train, val, epochs=15, lr_grid=(0.003, 0.03))
    expected = [reference.balanced_accuracy(val[1], guess) for guess in predictions_of(result, val[0])]
    np.testing.assert_allclose(result.val_scores, expected, atol=1e-9)
    np.testing.assert_allclose(result.val_scores, result.val_history.max(axis=1), atol=1e-6)
    np.testing.assert_array_equal(result.best_epochs, result.val_history.argmax(axis=1) + 1)
    assert result.best_trial == int(np.argmax(expected))
    assert result.lr in np.float32([0.003, 0.03]) or result.lr in (0.003, 0.03)


def test_shapes():
    result = probe(clusters(40), clusters(30, seed=1), trials=4, epochs=3)
    assert result.kernels.shape == (4, 5, 3) and result.biases.shape == (4, 3)
    assert result.kernels.dtype == result.biases.dtype == np.float32
    assert result.val_history.shape == (4, 3) and result.val_scores.shape == result.best_epochs.shape == (4,)


def test_shifted_and_scaled_features_give_the_same_probe():
    train, val = clusters(90, distance=1.5), clusters(90, distance=1.5, seed=1)
    result = probe(train, val)
    moved = probe((train[0] * 64 + 8, train[1]), (val[0] * 64 + 8, val[1]))
    np.testing.assert_allclose(moved.val_history, result.val_history, atol=0.03)
    np.testing.assert_allclose(moved.kernels * 64, result.kernels, rtol=0.02, atol=0.02 * np.abs(result.kernels).max())


def test_a_constant_feature_is_left_out():
    train, val = clusters(90), clusters(60, seed=1)
    constant = np.full([90, 1], 7.7, np.float32)
    result = probe((np.hstack([train[0], constant]), train[1]), (np.hstack([val[0], -5e3 * constant[:60]]), val[1]))
    assert np.isfinite(result.kernels).all() and np.isfinite(result.biases).all()
    assert not result.kernels[:, -1].any()
    assert result.val_scores.min() > 0.8


def test_features_that_are_all_the_same_score_chance_without_nan():
    result = probe((np.ones([30, 4], np.float32), clusters(30)[1]), (np.ones([30, 4], np.float32), clusters(30)[1]))
    assert np.isfinite(result.kernels).all() and np.isfinite(result.biases).all()
    np.testing.assert_allclose(result.val_scores, 1 / 3)


def test_classes_may_be_absent_from_either_part():
    train, val = clusters(120), clusters(120, seed=1)
    kept = train[1] != 2
    result = probe((train[0][kept], train[1][kept]), val, classes=4)
    assert result.kernels.shape[-1] == 4 and np.isfinite(result.kernels).all()
    # Two of the three classes in `val` were seen; the fourth occurs nowhere, and counting it would leave 1 / 2.
    assert result.val_scores.min() > 0.6
    expected = [reference.balanced_accuracy(val[1], guess) for guess in predictions_of(result, val[0])]
    np.testing.assert_allclose(result.val_scores, expected, atol=1e-9)
    one = val[1] == 0
    assert probe(train, (val[0][one], val[1][one])).val_scores.min() > 0.9


def test_class_weights_reach_the_rare_class():
    rng = np.random.default_rng(0)
    labels = (rng.random(400) < 0.05).astype(int)
    features = (rng.normal(0, 1, [400, 2]) + 1.2 * labels[:, None]).astype(np.float32)
    # One setting: the choice on validation would itself look for the rare class.
    settings = {"classes": 2, "focal_gamma": 0.0, "trials": 1, "lr_grid": (3e-3,), "weight_decay_grid": (0.0,)}
    plain = probe((features, labels), (features, labels), **settings)
    weighted = probe((features, labels), (features, labels), class_weights=np.array([1.0, 19.0]), **settings)
    named = [guess[0].mean() for guess in (predictions_of(plain, features), predictions_of(weighted, features))]
    assert named[1] > 2 * named[0]


def test_seeds():
    train, val = clusters(60, distance=1.0), clusters(60, distance=1.0, seed=1)
    first, again, other = (probe(train, val, trials=2, epochs=3, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.kernels, again.kernels)
    np.testing.assert_array_equal(first.val_history, again.val_history)
    assert np.abs(first.kernels[0] - first.kernels[1]).max() > 0
    assert np.abs(first.kernels - other.kernels).max() > 0
    # A trial is the same however many stand beside it.
    alone = probe(train, val, trials=1, epochs=3, lr_grid=(first.lr,), weight_decay_grid=(first.weight_decay,))
    np.testing.assert_allclose(alone.kernels[0], first.kernels[0], rtol=1e-4, atol=1e-6)


def test_progress_counts_epochs_and_inputs_are_left_alone():
    train, val, calls = clusters(40), clusters(30, seed=1), []
    before = train[0].copy(), val[0].copy()
    probe(train, val, epochs=3, progress=lambda *done: calls.append(done))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    np.testing.assert_array_equal(train[0], before[0])
    np.testing.assert_array_equal(val[0], before[1])
