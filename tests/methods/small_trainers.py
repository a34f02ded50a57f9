"""Small encoders, batches of views, and what the tests of every method do with them."""

import contextlib
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import tensorflow as tf
from reference.differences import central_differences

BATCH, SIDE, FEATURES, PROJECTIONS, HIDDEN = 6, 2, 5, 4, 3


def linear_encoder():
    images = tf.keras.Input([SIDE, SIDE, 3])
    flat = tf.keras.layers.Flatten()(images)
    return tf.keras.Model(images, tf.keras.layers.Dense(FEATURES, use_bias=False)(flat))


def conv_encoder():
    images = tf.keras.Input([8, 8, 3])
    x = tf.keras.layers.Conv2D(16, 3, use_bias=False)(images)
    x = tf.keras.layers.BatchNormalization(momentum=0.9)(x)
    x = tf.keras.layers.GlobalAveragePooling2D(dtype="float32")(tf.keras.layers.ReLU()(x))
    return tf.keras.Model(images, x)


def view_pair(seed=0, side=SIDE, batch=BATCH):
    rng = np.random.default_rng(seed)
    return {
        name: tf.constant(rng.uniform(-1, 1, [batch, side, side, 3]), tf.float32) for name in ("views_a", "views_b")
    }


def float64_views(batch):
    return [views.numpy().astype(np.float64) for views in batch.values()]


@contextlib.contextmanager
def precision(policy):
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


def fit(trainer, batch, steps, verbose=0):
    return trainer.fit(tf.data.Dataset.from_tensors(batch).repeat(steps), verbose=verbose)


def printed_by(program):
    """The lines a program prints in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()


def put_random(variables, seed=1):
    """Norms get scales and offsets other than 1 and 0."""
    rng = np.random.default_rng(seed)
    for variable in variables:
        variable.assign(rng.normal(0.3, 0.6, variable.shape))


def float64_weights(encoder, **heads):
    """{"encoder": kernel, "HEAD.fc1": kernel, "HEAD.fc1.bias": ..., "HEAD.bn1.gamma": ...} of what is trained."""
    variables = {"encoder": encoder.weights[0]}
    for name, head in heads.items():
        for layer in head.layers:
            for weight in ("kernel", "bias", "gamma", "beta"):
                if getattr(layer, weight, None) is not None:
                    key = f"{name}.{layer.name}.{weight}".replace(".kernel", "")
                    variables[key] = getattr(layer, weight)
    assert len(variables) == 1 + sum(len(head.trainable_variables) for head in heads.values())
    return {name: variable.numpy().astype(np.float64) for name, variable in variables.items()}


def assert_one_step_follows(loss, before, after, *, lr, weight_decay, atol=2e-5):
    """Every weight moved by -lr (gradient of `loss` + weight_decay times the weight).

    `loss` takes a dict of float64 arrays such as `before`.
    """
    for name, weight in before.items():
        gradient = central_differences(lambda moved, name=name: loss({**before, name: moved}), weight)
        expected = lr * (gradient + weight_decay * weight)
        np.testing.assert_allclose(weight - after[name], expected, atol=atol, err_msg=name)
