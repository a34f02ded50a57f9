import numpy as np
import pytest
import tensorflow as tf
from small_trainers import printed_by

from bitkeras.data import read_source
from bitkeras.data.augment import make_policy
from bitkeras.data.batches import view_batches
from bitkeras.methods import SimSiam

TWO_REPLICAS = """
import numpy as np
import tensorflow as tf

from bitkeras.methods.trainer import ViewTrainer

# Logical devices can only be made before TensorFlow starts, hence a process of its own.
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)


class Line(ViewTrainer):
    def __init__(self):
        super().__init__(weight_decay=0.3)
        self.weight = tf.Variable([1.0, -2.0])

    def view_loss(self, views_a, views_b, *, training):
        return tf.reduce_mean(tf.square(tf.linalg.matvec(views_a - 0.5 * views_b, self.weight) - 1.0))


rng = np.random.default_rng(0)
data = {name: rng.normal(size=[24, 2]).astype("float32") for name in ("views_a", "views_b")}
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    with strategy.scope():
        trainer = Line()
        trainer.compile(optimizer=tf.keras.optimizers.SGD(0.1, momentum=0.9))
    history = trainer.fit(tf.data.Dataset.from_tensor_slices(data).batch(8), epochs=2, verbose=0).history
    print(strategy.num_replicas_in_sync, *trainer.weight.numpy(), history["loss"][-1])
"""


@pytest.mark.slow
def test_two_replicas_take_the_steps_of_one_with_the_same_global_batch():
    """Loss and weight decay are shares of one step, not two steps."""
    one, two = (np.array(line.split(), float) for line in printed_by(TWO_REPLICAS)[-2:])
    assert (one[0], two[0]) == (1, 2)
    np.testing.assert_allclose(two[1:], one[1:], rtol=1e-5)


@pytest.mark.slow
def test_views_are_made_in_the_training_step_as_in_the_pipeline(phantoms):
    """keras-cv's second half runs where the step runs: other views in each step, as bright and as varied as before."""
    source, size = read_source("phantom", phantoms), 16
    policy = make_policy("keras_cv", image_size=size, seed=0)
    order = {"policy": "keras_cv", "image_size": size, "batch_size": 64, "seed": 0}
    images = tf.keras.Input([size, size, 3])
    features = tf.keras.layers.Dense(4)(tf.keras.layers.Flatten()(images))
    trainer = SimSiam(tf.keras.Model(images, features), num_projections=4, num_predictor_hidden=2)
    trainer.finish_views = policy.halves[1]
    trainer.compile(optimizer=tf.keras.optimizers.SGD(0.1))
    unfinished = view_batches(source, np.arange(len(source)), **order, finished=False)
    batch = next(iter(unfinished))
    assert batch["images"].dtype == tf.uint8 and batch["images"].shape == [64, 2 * size, 2 * size, 3]
    before = [weight.numpy() for weight in trainer.trainable_weights]
    history = trainer.fit(unfinished, steps_per_epoch=2, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert any((weight.numpy() != old).any() for weight, old in zip(trainer.trainable_weights, before))
    views = tf.function(trainer.views)
    (one, other), (again, _) = views(batch), views(batch)
    assert (one.numpy() != other.numpy()).any(axis=(1, 2, 3)).all() and (one.numpy() != again.numpy()).any()
    finished = next(iter(view_batches(source, np.arange(len(source)), **order)))["views_a"].numpy()
    assert one.shape == finished.shape
    assert abs(one.numpy().mean() - finished.mean()) < 0.15 and abs(one.numpy().std() - finished.std()) < 0.15
