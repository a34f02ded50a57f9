"""What holds for every method alike."""

import numpy as np
import pytest
import tensorflow as tf
from small_trainers import conv_encoder, fit, linear_encoder, precision, printed_by, view_pair

from bitkeras.backbones.bit_resnet import Architecture, build_bit_resnet
from bitkeras.errors import UserError
from bitkeras.methods import BYOL, METHOD_OPTIONS, METHODS, build_method, settled_options

# What has tests of its own in test_simsiam.py, and in those of the pipelines.
BESIDE_SIMSIAM = sorted({*METHODS} - {"simsiam"})
SMALL = {
    "byol": {"num_projections": 8, "num_hidden": 16, "num_predictor_hidden": 16},
    "simclr": {"num_projections": 8, "num_hidden": 16},
    "simsiam": {"num_projections": 8, "num_predictor_hidden": 4},
    "vicreg": {"num_projections": 8},
}


def small(method, encoder, num_steps=20, **kwargs):
    return build_method(method, encoder, num_steps=num_steps, **{"weight_decay": 0.0, **SMALL[method], **kwargs})


def similar_views(seed=0):
    """Two views of the same images, a little noise apart."""
    views, noise = view_pair(seed, side=8, batch=16).values()
    return {"views_a": views, "views_b": views + 0.1 * noise}


@pytest.mark.parametrize("method", BESIDE_SIMSIAM)
def test_a_bit_network_with_group_norm_learns_one_batch(method):
    tf.keras.utils.set_random_seed(0)
    encoder = build_bit_resnet(Architecture((1,), 0.125), name="tiny", norm="group", stem="cifar")
    trainer, batch = small(method, encoder), similar_views()
    trainer.compile(optimizer=tf.keras.optimizers.SGD(0.02, momentum=0.9))
    before = [variable.numpy() for variable in encoder.trainable_variables]
    losses = [fit(trainer, batch, 5).history["loss"][0] for _ in range(4)]
    assert np.isfinite(losses).all() and losses[-1] < losses[0], losses
    assert all(np.abs(new.numpy() - old).max() > 0 for old, new in zip(before, trainer.encoder.trainable_variables))
    assert trainer.projections(batch["views_a"], training=False).shape == [16, 8]


@pytest.mark.parametrize("method", BESIDE_SIMSIAM)
def test_in_half_precision_a_step_moves_every_weight(method):
    with precision("mixed_float16"):
        tf.keras.utils.set_random_seed(0)
        trainer = small(method, conv_encoder())
        trainer.compile(optimizer=tf.keras.optimizers.SGD(0.02, momentum=0.9))
        before = [variable.numpy() for variable in trainer.trainable_variables]
        # The loss scale starts at 32,768; the first steps may overflow, halve it and move nothing.
        loss = fit(trainer, view_pair(side=8), 12).history["loss"][0]
        assert np.isfinite(loss)
        assert {variable.dtype for variable in trainer.weights} == {tf.float32, tf.int64}
        moved = [np.abs(new.numpy() - old).max() for old, new in zip(before, trainer.trainable_variables)]
        assert all(0 < distance < 5 for distance in moved), list(moved)
        assert np.isfinite(trainer.evaluate(tf.data.Dataset.from_tensors(view_pair(side=8)), verbose=0)).all()
        if method == "byol":
            pairs = zip(trainer.target.encoder.trainable_weights, before)
            assert all(0 < np.abs(average.numpy() - old).max() < 1 for average, old in pairs)


@pytest.mark.parametrize("method", METHODS)
def test_what_stands_in_for_the_encoder_is_what_is_trained(method):
    trainer, asked = small(method, conv_encoder()), []

    def forward(views, *, training):
        asked.append(training)
        return trainer.encoder(views, training=training)

    trainer.forward = forward
    trainer.batch_loss(view_pair(side=8), training=True)
    assert asked == [True, True]


@pytest.mark.parametrize("method", BESIDE_SIMSIAM)
def test_a_checkpoint_holds_all_there_is(method, tmp_path):
    """Two steps, and two more from a checkpoint in another trainer, are four steps."""

    def compiled(seed):
        tf.keras.utils.set_random_seed(seed)
        trainer = small(method, linear_encoder(), num_steps=4)
        trainer.compile(optimizer=tf.keras.optimizers.SGD(0.02, momentum=0.9))
        trainer.optimizer.build(trainer.trainable_variables)
        return trainer, tf.train.Checkpoint(model=trainer, optimizer=trainer.optimizer)

    trainer, checkpoint = compiled(seed=0)
    batch = view_pair()
    fit(trainer, batch, 2)
    path = checkpoint.write(str(tmp_path / "ckpt"))
    other, other_checkpoint = compiled(seed=1)
    other_checkpoint.read(path).assert_existing_objects_matched()
    for one in (trainer, other):
        fit(one, batch, 2)
    assert len(trainer.weights) == len(other.weights) > 0
    for weight, other_weight in zip(trainer.weights, other.weights):
        np.testing.assert_array_equal(weight, other_weight)


def test_options_that_are_not_given_are_the_papers():
    sizes = ("num_projections", "num_hidden", "num_predictor_hidden")
    settled = {method: settled_options(method, dict.fromkeys(METHOD_OPTIONS)) for method in METHODS}
    assert {method: tuple(options[name] for name in sizes) for method, options in settled.items()} == {
        "byol": (256, 4096, 4096),
        "simclr": (128, None, None),
        "simsiam": (2048, None, 512),
        "vicreg": (8192, None, None),
    }
    assert settled["simclr"]["temperature"] == 0.1 and settled["byol"]["base_tau"] == 0.996
    assert settled_options("byol", {"num_projections": 64, "base_tau": None}) == {
        "num_projections": 64,
        "base_tau": 0.996,
    }


@pytest.mark.parametrize(
    "method, option, flag, others",
    [
        ("simclr", "num_predictor_hidden", "--num_predictor_hidden", "byol and simsiam"),
        ("vicreg", "predictor_scale", "--fix_predictor_lr", "byol and simsiam"),
        ("simsiam", "base_tau", "--base_tau", "byol"),
    ],
)
def test_an_option_of_another_method_is_refused_by_its_flag(method, option, flag, others):
    with pytest.raises(UserError, match=rf"^{flag} means nothing to --method={method}; it is for {others}, "):
        build_method(method, linear_encoder(), num_steps=1, weight_decay=0.0, **{option: 0.5})


def test_a_head_of_byol_has_the_papers_sizes():
    trainer = BYOL(linear_encoder(), num_steps=1)
    for head in (trainer.projector, trainer.predictor):
        assert [layer.name for layer in head.layers] == ["inputs", "fc1", "bn1", "relu1", "fc2"]
        assert (head.get_layer("fc1").units, head.get_layer("fc2").units) == (4096, 256)


TWO_REPLICAS = """
import numpy as np
import tensorflow as tf

from bitkeras.batch_norm import batch_norm
from bitkeras.methods import METHODS, build_method

# Logical devices can only be made before TensorFlow starts, hence a process of its own.
processor = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * 2)
strategies = (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))


def encoder():
    images = tf.keras.Input([8, 8, 3])
    x = batch_norm("norm")(tf.keras.layers.Conv2D(6, 3, use_bias=False)(images))
    return tf.keras.Model(images, tf.keras.layers.GlobalAveragePooling2D()(tf.keras.layers.ReLU()(x)))


def weights_of(trainer):
    # No running statistics: not fused, the variance is another one by N / (N - 1).
    return [weight for weight in trainer.weights if weight.shape.rank > 0 and "moving" not in weight.name]


rng = np.random.default_rng(0)
data = {name: rng.uniform(-1, 1, [12, 8, 8, 3]).astype("float32") for name in ("views_a", "views_b")}
for method in METHODS:
    tf.keras.utils.set_random_seed(0)
    options = {"byol": {"base_tau": 0.8}, "simclr": {"temperature": 0.5}}.get(method, {})
    start, ends, losses = None, [], []
    for strategy in strategies:
        with strategy.scope():
            sizes = {"num_steps": 4, "num_projections": 6, "num_hidden": 10}
            trainer = build_method(method, encoder(), weight_decay=0.01, **sizes, **options)
            trainer.keep_average(0.9)
            rate = 0.002 if method == "vicreg" else 0.02
            trainer.compile(optimizer=tf.keras.optimizers.SGD(rate, momentum=0.9))
            start = start or [weight.numpy() for weight in weights_of(trainer)]
            for weight, value in zip(weights_of(trainer), start):
                weight.assign(value)
        batches = tf.data.Dataset.from_tensor_slices(data).batch(12).repeat(3)
        losses.append(trainer.fit(batches, verbose=0).history["loss"][-1])
        ends.append([weight.numpy() for weight in weights_of(trainer)])
    moved = [np.linalg.norm(end - old) for end, old in zip(ends[1], start)]
    apart = max(np.linalg.norm(one - two) / move for one, two, move in zip(*ends, moved))
    print(method, len(start), *losses, apart, min(np.abs(end - old).max() for end, old in zip(ends[1], start)))
"""


@pytest.mark.slow
def test_two_replicas_take_the_steps_of_one_with_the_same_global_batch():
    """Negatives, variances and batch statistics are those of the global batch; BYOL's target and an average of the
    encoder, statistics among it, move once a step.

    The distance is a share of how far each weight moved: rounding may put an activation on the other side of a ReLU's
    zero, which is worth about a hundredth; a batch of one's own or a lost step are worth a tenth and more.
    """
    lines = [line.split() for line in printed_by(TWO_REPLICAS)[-len(METHODS) :]]
    assert [line[0] for line in lines] == list(METHODS)
    for method, num_weights, *numbers in lines:
        loss, other_loss, apart, least_moved = map(float, numbers)
        assert int(num_weights) >= 8 and least_moved > 1e-3, method
        assert loss == pytest.approx(other_loss, rel=1e-3), method
        assert apart < 0.03, method
