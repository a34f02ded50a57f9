import numpy as np
import pytest
from small_trainers import printed_by

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
