"""Fine-tuning: it can learn by heart, starts where the encoder is, weights classes, and keeps the best epoch."""

import dataclasses

import numpy as np
import tensorflow as tf

from bitkeras.methods.finetuning import Choosing, classifier_of, finetune, load_best, save_best
from bitkeras.methods.supervised import Supervised

K = 3


def small_encoder():
    tf.keras.utils.set_random_seed(0)
    layers = tf.keras.layers
    images = layers.Input([8, 8, 3])
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.5)(layers.Conv2D(16, 3)(images)))
    return tf.keras.Model(images, layers.GlobalAveragePooling2D()(x))


def made_images(count=12):
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, [count, 8, 8, 3]).astype(np.float32), (np.arange(count) % K).astype(np.int32)


def train(images, labels, *, num_epochs, rate=0.3, told=None, **options):
    encoder = small_encoder()
    classifier = classifier_of(encoder, K)
    data = tf.data.Dataset.from_tensors({"images": images, "labels": labels}).repeat()
    tell = (lambda *told_now: None) if told is None else (lambda *now: told.append(now))
    choosing = Choosing(
        classifier, encoder, images=tf.data.Dataset.from_tensor_slices(images).batch(5), labels=labels, tell=tell
    )
    best = finetune(
        classifier,
        encoder,
        data,
        optimizer=tf.keras.optimizers.SGD(rate, momentum=0.9),
        num_epochs=num_epochs,
        steps_per_epoch=10,
        weight_decay=0.0,
        class_weights=options.get("class_weights"),
        choosing=choosing,
    )
    return best, encoder, classifier


def test_few_images_are_learnt_by_heart():
    images, labels = made_images()
    told = []
    best, encoder, _ = train(images, labels, num_epochs=40, told=told)
    assert best.score == 1 and best.history[0] < 1
    # What is kept is the epoch of that score: its encoder and head give it again.
    encoder.set_weights(best.weights)
    logits = encoder(images, training=False).numpy() @ best.kernel + best.bias
    assert (logits.argmax(axis=1) == labels).all()
    assert len(best.history) == len(told) == 40 and best.epoch == 40 - best.history[::-1].index(1.0)
    assert [row[0] for row in told] == list(range(1, 41)) and told[-1][1] < told[0][1]


def test_the_best_epoch_is_kept_on_disk_to_the_bit(tmp_path):
    images, labels = made_images()
    best, *_ = train(images, labels, num_epochs=12)
    best.weights *= 3
    save_best(dataclasses.replace(best, seconds=1.25), tmp_path / "rates" / "rate_0.1.npz")
    again = load_best(tmp_path / "rates" / "rate_0.1.npz")
    assert (again.score, again.epoch, again.seconds) == (best.score, best.epoch, 1.25)
    assert again.history == best.history and len(again.weights) == len(best.weights) > 10
    for mine, theirs in zip((*again.weights, again.kernel, again.bias), (*best.weights, best.kernel, best.bias)):
        np.testing.assert_array_equal(mine, theirs)


def test_the_whole_network_moves():
    images, labels = made_images()
    before = small_encoder().get_weights()
    best, _, _ = train(images, labels, num_epochs=3)
    assert all(np.abs(one - other).max() > 0 for one, other in zip(best.weights, before))


def test_without_steps_that_matter_the_head_answers_nothing():
    images, labels = made_images()
    best, encoder, classifier = train(images, labels, num_epochs=1, rate=0.0)
    np.testing.assert_array_equal(classifier(images), np.zeros([12, K]))
    assert best.score == 1 / K


def test_class_weights_are_factors_on_the_cross_entropy():
    images, labels = made_images()
    classifier = classifier_of(small_encoder(), K)
    classifier.get_layer("head").set_weights(
        [np.random.default_rng(1).normal(size=[16, K]), np.array([0.3, -0.1, 0.2])]
    )
    weights = np.array([0.5, 1.0, 4.0])
    logits = classifier(images, training=False).numpy().astype(np.float64)
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(12), labels]
    loss = Supervised(classifier, class_weights=weights).batch_loss(
        {"images": images, "labels": labels}, training=False
    )
    np.testing.assert_allclose(loss, (losses * weights[labels]).mean(), rtol=1e-5)
    plain = Supervised(classifier).batch_loss({"images": images, "labels": labels}, training=False)
    np.testing.assert_allclose(plain, losses.mean(), rtol=1e-5)
