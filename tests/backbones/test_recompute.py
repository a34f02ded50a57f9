import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from bitkeras.backbones import build_backbone
from bitkeras.backbones.norm_swap import batch_norms
from bitkeras.backbones.recompute import recomputing, unit_segments

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = {
    "batch": {"norm": "batch"},
    "batch, standardised": {"norm": "batch", "weight_standardization": True},
    "group": {"norm": "group"},
    "classifier": {"norm": "group", "stem": "cifar", "num_classes": 3},
}
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
# Small gradients would be lost in float16, as they are in training without a loss scale.
LOSS_SCALE = 1024.0


@pytest.fixture(autouse=True)
def float32_again():
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


def network(kind, precision="float32", name="R14x0.25"):
    """A network without a weight that is 0 or 1 at first."""
    tf.keras.mixed_precision.set_global_policy(precision)
    tf.keras.utils.set_random_seed(0)
    encoder = build_backbone(name, **NETWORKS[kind])
    rng = np.random.default_rng(0)
    for variable in encoder.variables:
        if "conv" not in variable.name:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return encoder


def noise(*shape):
    return tf.constant(np.random.default_rng(1).uniform(-1, 1, shape), tf.float32)


def one_step(encoder, forward, *, compiled):
    """(loss, gradients, statistics) after two passes of a training step, as a siamese method makes them."""
    start, views = encoder.get_weights(), noise(6, 32, 32, 3)
    weights = noise(6, encoder.output_shape[-1])

    def step(views):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(forward(views, training=True) * weights)
            loss += tf.reduce_mean(tf.square(forward(0.5 - views, training=True)) * weights)
            scaled = LOSS_SCALE * loss
        return loss, tape.gradient(scaled, encoder.trainable_variables)

    loss, gradients = tf.function(step)(views) if compiled else step(views)
    statistics = [variable.numpy() for variable in encoder.non_trainable_variables]
    encoder.set_weights(start)
    return float(loss), [gradient.numpy() for gradient in gradients], statistics


def assert_close(found, expected, tolerance):
    """Within a share of the largest number of each array."""
    for a, b in zip(found, expected):
        assert np.all(np.isfinite(b)) and np.abs(a - b).max() <= tolerance * np.abs(b).max()


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        *(("batch", precision) for precision in PRECISIONS),
        *(("group", precision) for precision in PRECISIONS),
        ("batch, standardised", "float32"),
        ("classifier", "mixed_bfloat16"),
    ],
)
def test_a_step_is_that_of_the_encoder(kind, precision):
    encoder = network(kind, precision)
    plain = one_step(encoder, encoder, compiled=False)
    loss, gradients, statistics = one_step(encoder, recomputing(encoder), compiled=False)
    assert loss == plain[0] and len(gradients) == len(encoder.trainable_variables)
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)
    # What a kernel gets from the terms of its standardisation is summed in another order.
    assert_close(gradients, plain[1], 1e-6)
    assert_close(statistics, plain[2], 0.0)


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [
        ("batch", 0.0),
        # The graph optimiser rewrites the standardisation where its steps are not kept, and the last digit differs.
        ("batch, standardised", 1e-4),
        pytest.param("group", 1e-4, marks=pytest.mark.slow),
    ],
)
def test_a_compiled_step_is_that_of_the_encoder(kind, tolerance):
    encoder = network(kind)
    plain = one_step(encoder, encoder, compiled=True)
    loss, gradients, statistics = one_step(encoder, recomputing(encoder), compiled=True)
    assert loss == pytest.approx(plain[0], rel=tolerance)
    assert_close(gradients, plain[1], max(tolerance, 1e-6))
    assert_close(statistics, plain[2], tolerance)


def test_statistics_move_once_a_pass():
    """By hand: what the first BN behind the root has after one pass."""
    encoder = network("batch")
    first = batch_norms(encoder)[0]
    behind_root = tf.keras.Model(encoder.input, first.input)
    views, before = noise(4, 32, 32, 3), first.moving_mean.numpy()
    forward = recomputing(encoder)

    @tf.function
    def step(views):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(forward(views, training=True)))
        return tape.gradient(loss, encoder.trainable_variables)

    step(views)
    mean = behind_root(views).numpy().mean((0, 1, 2))
    np.testing.assert_allclose(first.moving_mean, 0.9 * before + 0.1 * mean, rtol=1e-5, atol=1e-6)


def test_a_layer_that_was_made_to_hold_its_statistics_still_moves_them_in_a_plain_pass():
    encoder = network("batch")
    recomputing(encoder)
    before = [variable.numpy() for variable in encoder.non_trainable_variables]
    encoder(noise(4, 32, 32, 3), training=True)
    assert all(np.any(old != new) for old, new in zip(before, encoder.non_trainable_variables))


def test_inference_is_the_encoders():
    encoder = network("batch")
    views, before = noise(4, 32, 32, 3), encoder.get_weights()
    np.testing.assert_array_equal(recomputing(encoder)(views, training=False), encoder(views, training=False))
    for old, new in zip(before, encoder.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_gradients_reach_the_views_where_they_are_asked_for():
    encoder = network("batch")
    forward, gradients = recomputing(encoder), []
    for function in (encoder, forward):
        views = noise(4, 32, 32, 3)
        with tf.GradientTape() as tape:
            tape.watch(views)
            loss = tf.reduce_sum(tf.square(function(views, training=True)))
        gradients.append(tape.gradient(loss, views).numpy())
    np.testing.assert_array_equal(gradients[1], gradients[0])
    assert np.abs(gradients[0]).max() > 0


@pytest.mark.parametrize(
    ("stem", "root"), [("imagenet", "root_block_pool"), ("cifar", "root_block_conv")], ids=["imagenet", "cifar"]
)
def test_segments_end_with_the_root_and_with_every_unit(stem, root):
    encoder = build_backbone("R26x0.25", norm="batch", stem=stem)
    segments = unit_segments(encoder)
    units = [f"block{block}_unit{unit:02d}_add" for block in (1, 2, 3, 4) for unit in (1, 2)]
    assert [layers[-1].name for layers in segments] == [root, *units, "features"]
    assert [layer for layers in segments for layer in layers] == encoder.layers[1:]
    for unit, layers in zip(units, segments[1:]):
        assert {layer.name[: len(unit) - 4] for layer in layers} == {unit[:-4]}


def test_the_encoder_remains_what_is_saved(tmp_path):
    encoder = network("batch")
    before = encoder.get_config()
    views = noise(2, 32, 32, 3)
    recomputing(encoder)(views, training=True)
    assert encoder.get_config() == before
    encoder.save(tmp_path / "encoder.keras")
    loaded = tf.keras.models.load_model(tmp_path / "encoder.keras")
    assert {type(layer).__module__.split(".")[0] for layer in loaded.layers} == {"keras"}
    np.testing.assert_array_equal(loaded(views, training=False), encoder(views, training=False))


PEAK = """
import sys
from pathlib import Path

import tensorflow as tf

from bitkeras.backbones import build_backbone
from bitkeras.backbones.recompute import recomputing

arm, norm = sys.argv[1:]
encoder = build_backbone("R50x0.25" if norm == "batch" else "R26x0.25", norm=norm)
forward = recomputing(encoder) if arm == "recomputed" else encoder


@tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
def step(views):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(forward(views, training=True)))
    for gradient, variable in zip(tape.gradient(loss, encoder.trainable_variables), encoder.trainable_variables):
        variable.assign_sub(1e-3 * gradient)
    return loss


def resident(name):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


float(step(tf.zeros([2, 96, 96, 3])))
views = tf.random.uniform([96, 96, 96, 3])
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
float(step(views))
print(resident("VmHWM") - before)
"""


def printed_by(program, *arguments):
    """The last line a program prints in a process of its own."""
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("norm", ["batch", "group"])
def test_a_compiled_step_needs_less_memory(norm):
    """Graph optimisation must not undo it, which an eager step would not show."""
    kept, recomputed = (int(printed_by(PEAK, arm, norm)) for arm in ("kept", "recomputed"))
    assert kept > 100_000
    assert recomputed < 0.6 * kept


TWO_REPLICAS = """
import numpy as np
import tensorflow as tf

from bitkeras.backbones import build_backbone
from bitkeras.backbones.norm_swap import batch_norms
from bitkeras.backbones.recompute import recomputing

processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    encoder = build_backbone("R14x0.25", norm="batch")
    optimizer = tf.keras.optimizers.SGD(0.5)
    optimizer.build(encoder.trainable_variables)
assert all(norm.synchronized for norm in batch_norms(encoder))
start = encoder.get_weights()
views = tf.constant(np.random.default_rng(0).uniform(-1, 1, [8, 32, 32, 3]), tf.float32)


def weights_after_two_steps(forward):
    encoder.set_weights(start)

    @tf.function
    def step():
        def of_replica(views):
            with tf.GradientTape() as tape:
                loss = 0.5 * tf.reduce_mean(tf.square(forward(views, training=True)))
            variables = encoder.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))

        shares = strategy.experimental_distribute_values_from_function(
            lambda context: views[context.replica_id_in_sync_group :: 2]
        )
        strategy.run(of_replica, args=(shares,))

    step()
    step()
    return encoder.get_weights()


plain, again = weights_after_two_steps(encoder), weights_after_two_steps(recomputing(encoder))
moved = min(np.abs(new - old).max() for new, old in zip(plain, start))
apart = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(again, plain))
print(moved, apart)
"""


@pytest.mark.slow
def test_two_replicas_with_synchronised_statistics_take_the_same_steps():
    moved, apart = map(float, printed_by(TWO_REPLICAS).split())
    assert moved > 0 and apart < 1e-4
