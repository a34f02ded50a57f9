import re
import sys
import warnings

import numpy as np
import pytest
import tensorflow as tf

from bitkeras import addons
from bitkeras.callbacks import RunCheckpoint
from bitkeras.errors import UserError
from bitkeras.methods.trainer import ViewTrainer


class Agreement(ViewTrainer):
    """The smallest method: features of the two views should agree."""

    def __init__(self):
        super().__init__()
        self.layer = tf.keras.layers.Dense(4)
        self.layer.build([None, 12])

    def view_loss(self, views_a, views_b, *, training):
        features = [self.layer(tf.reshape(views, [-1, 12])) for views in (views_a, views_b)]
        return tf.reduce_mean(tf.cast(tf.square(features[0] - features[1]), tf.float32))


@pytest.fixture
def policy(request):
    tf.keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    tf.keras.mixed_precision.set_global_policy("float32")


def batch():
    views = np.random.default_rng(0).uniform(-1, 1, [2, 8, 2, 2, 3]).astype(np.float32)
    return {"views_a": tf.constant(views[0]), "views_b": tf.constant(views[1])}


def lamb_trainer(rate=0.01, weight_decay=0.1):
    tf.keras.utils.set_random_seed(0)
    trainer = Agreement()
    trainer.compile(optimizer=addons.lamb(rate, weight_decay=weight_decay))
    return trainer


def test_lamb_takes_the_step_of_its_paper():
    trainer = lamb_trainer()
    kernel = trainer.layer.kernel.numpy()
    with tf.GradientTape() as tape:
        loss = trainer.view_loss(**batch(), training=True)
    gradient = tape.gradient(loss, trainer.layer.kernel).numpy()
    trainer.fit(tf.data.Dataset.from_tensors(batch()), verbose=0)
    # You et al. 2020, algorithm 2, at t = 1: both moments are unbiased to g and g^2.
    update = gradient / (np.abs(gradient) + 1e-6) + 0.1 * kernel
    expected = kernel - 0.01 * np.linalg.norm(kernel) / np.linalg.norm(update) * update
    np.testing.assert_allclose(trainer.layer.kernel, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"], indirect=True)
def test_lamb_trains_under_a_schedule_and_goes_on_from_a_checkpoint(policy, tmp_path):
    def trainer():
        made = lamb_trainer(tf.keras.optimizers.schedules.CosineDecay(0.1, 40))
        return made, RunCheckpoint(made, tmp_path, steps_per_epoch=10)

    first, checkpoint = trainer()
    assert isinstance(first.optimizer, tf.keras.mixed_precision.LossScaleOptimizer) == (policy == "mixed_float16")
    data = tf.data.Dataset.from_tensors(batch()).repeat()
    losses = first.fit(data, steps_per_epoch=10, epochs=2, verbose=0, callbacks=[checkpoint]).history["loss"]
    assert losses[1] < losses[0]
    # Half of the cosine is over; under a loss scale a step that overflows does not count.
    assert 0.05 - 1e-6 <= float(first.optimizer.learning_rate) < 0.1
    second, checkpoint = trainer()
    assert checkpoint.restore() == 20
    assert float(second.optimizer.learning_rate) == float(first.optimizer.learning_rate)
    for trained in (first, second):
        trained.fit(data, steps_per_epoch=1, verbose=0)
    np.testing.assert_allclose(second.layer.kernel, first.layer.kernel, rtol=1e-6)


def test_the_progress_bar_is_that_of_addons_and_goes_on_where_a_run_does():
    import tensorflow_addons

    bar = addons.progress_bar(6, epochs_done=3)
    assert isinstance(bar, tensorflow_addons.callbacks.TQDMProgressBar)
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=[1])])
    model.compile("sgd", "mse")
    # The words of the verdict are among an epoch's numbers.
    words = tf.keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logs.update(verdict="healthy"))
    data = tf.data.Dataset.from_tensors((np.ones([2, 1]), np.ones([2, 1]))).repeat()
    # The rest of an epoch, and those after it.
    for first, end in ((3, 4), (4, 6)):
        model.fit(data, steps_per_epoch=2, initial_epoch=first, epochs=end, verbose=0, callbacks=[words, bar])
        assert (bar.overall_progress_tqdm.n, bar.overall_progress_tqdm.total) == (end, 6)
    assert re.fullmatch(r"loss \d\.\d{4}", bar.epoch_progress_tqdm.desc)
    bar.close()


def test_addons_do_not_announce_their_end():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        addons.lamb(0.1, weight_decay=0.0)
    assert not [str(warning.message) for warning in caught if "Addons" in str(warning.message)]


@pytest.mark.parametrize("use", [lambda: addons.progress_bar(1), lambda: addons.lamb(0.1, weight_decay=0.0)])
def test_without_addons_one_sentence_says_so(use, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_addons", None)
    with pytest.raises(UserError, match="tensorflow-addons cannot be imported.*constraints.txt") as error:
        use()
    assert "\n" not in str(error.value)
