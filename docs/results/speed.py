"""A training step of SimSiam, ours beside that of lightly on PyTorch: the table of speed.md.

    python docs/results/speed.py --peer_python=PEER/bin/python --backbone=R50x1 --image_size=64 --batch_size=32
    python docs/results/speed.py --settings --precisions mixed_bfloat16

Every arm is a process of its own that waits while another has its turn; a turn is some steps on a batch in memory, and
the arms take turns, so that what else the machine does hits all of them. PEER is an environment with torch, lightly and
timm; the peer takes every layout, and its best one counts. `--settings` sets ours as it is beside what might be faster.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
# Name -> flags of the arm, and what is added to its environment.
SETTINGS = {
    "convolutions as TensorFlow has them": (["--convs"], {}),
    "Keras's SGD": (["--keras_sgd"], {}),
    "XLA": (["--jit"], {}),
    "without oneDNN": ([], {"TF_ENABLE_ONEDNN_OPTS": "0"}),
    "without changes of layout": (["--without=layout_optimizer"], {}),
    "without fusion": (["--without=remapping"], {}),
    "one operation at a time": (["--inter_op=1"], {}),
    "fit": (["--loop=1"], {}),
    "fit, steps_per_execution=4": (["--loop=4"], {}),
    "memory kept by malloc": ([], {"MALLOC_TRIM_THRESHOLD_": "8589934592", "MALLOC_MMAP_THRESHOLD_": "8589934592"}),
}


def serve(options: argparse.Namespace) -> None:
    """Our side: a turn of steps for each line that is read."""
    import tensorflow as tf

    from bitkeras.backbones import build_backbone
    from bitkeras.backbones.matmul_convs import use_matmuls
    from bitkeras.methods import SimSiam
    from bitkeras.sgd import SGD

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.inter_op)
    tf.config.optimizer.set_experimental_options({options.without: False} if options.without else {})
    tf.keras.mixed_precision.set_global_policy(options.precision)
    tf.keras.utils.set_random_seed(0)
    encoder = build_backbone(options.backbone, norm="batch")
    if not options.convs:
        use_matmuls(encoder)
    trainer = SimSiam(encoder)
    make_optimizer = tf.keras.optimizers.SGD if options.keras_sgd else SGD
    trainer.compile(optimizer=make_optimizer(1e-3, momentum=0.9), steps_per_execution=options.loop or 1)
    shape = [options.batch_size, options.image_size, options.image_size, 3]
    batch = {name: tf.random.uniform(shape, -1, 1) for name in ("views_a", "views_b")}
    turn = make_loop(trainer, batch, options) if options.loop else make_step(trainer, batch, options)
    turn()
    print(sum(int(tf.size(weight)) for weight in encoder.trainable_weights), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        turn()
        print(time.perf_counter() - started, flush=True)


def make_step(trainer, batch: dict, options: argparse.Namespace) -> Callable[[], None]:
    """Bare compiled steps."""
    import tensorflow as tf

    step = tf.function(trainer.train_step, jit_compile=options.jit or None)

    def turn() -> None:
        for _ in range(options.steps):
            loss = step(batch)["loss"]
        float(loss)

    return turn


def make_loop(trainer, batch: dict, options: argparse.Namespace) -> Callable[[], None]:
    """The same steps by `fit`."""
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensors(batch).repeat()
    return lambda: trainer.fit(dataset, steps_per_epoch=options.steps, verbose=0)


class Arm:
    """One process, and the seconds of its turns."""

    def __init__(self, name: str, command: list[str], options: argparse.Namespace, **variables: str):
        sizes = {key: getattr(options, key) for key in ("backbone", "image_size", "batch_size", "steps", "threads")}
        flags = [f"--{key}={value}" for key, value in sizes.items()]
        self.name, self.seconds = name, []
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen([*command, *flags], **pipes, env={**os.environ, **variables})
        self.num_weights = int(self.process.stdout.readline())

    def turn(self) -> float:
        """The seconds of one turn."""
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


def _asked(settings: list[str] | None) -> dict:
    return {} if settings is None else {name: SETTINGS[name] for name in settings or SETTINGS}


def compare(options: argparse.Namespace) -> None:
    """Prints a row for each arm: images a second, and the ratio to the peer's best in the same precision."""
    arms = []
    for precision in options.precisions:
        ours = [sys.executable, __file__, "--serve", f"--precision={precision}"]
        arms.append(Arm(f"bitkeras, {precision}", ours, options))
        for name, (flags, variables) in _asked(options.settings).items():
            arms.append(Arm(f"bitkeras, {precision}, {name}", [*ours, *flags], options, **variables))
    if options.peer_python:
        peer = [options.peer_python, str(HERE / "speed_peer.py")]
        arms += [
            Arm(f"lightly, {precision}, {layout}", [*peer, f"--precision={precision}", f"--layout={layout}"], options)
            for precision, layout in itertools.product(
                (precision.replace("mixed_", "") for precision in options.precisions), ("channels_last", "contiguous")
            )
        ]
    # The first turn of each is for its caches.
    for turn in range(options.turns + 1):
        for arm in arms:
            seconds = arm.turn()
            if turn:
                arm.seconds.append(seconds)
    rates = {arm.name: options.steps * options.batch_size / statistics.median(arm.seconds) for arm in arms}
    print(
        "| step | weights of the network | images/s | to bitkeras as it is | to lightly's best |\n|---|---|---|---|---|"
    )
    for arm in arms:
        kind = "bfloat16" if "bfloat16" in arm.name else "float32"
        best = max((rate for name, rate in rates.items() if name.startswith("lightly") and kind in name), default=None)
        plain = next(rate for name, rate in rates.items() if kind in name)
        ratios = [f"{rates[arm.name] / other:.2f}" if other else "" for other in (plain, best)]
        print(f"| {arm.name} | {arm.num_weights:,} | {rates[arm.name]:.1f} | " + " | ".join(ratios) + " |")
        arm.process.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer_python", help="Python of the environment with torch, lightly and timm")
    parser.add_argument("--backbone", default="R50x1")
    parser.add_argument("--image_size", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=4, help="of a turn")
    parser.add_argument("--turns", type=int, default=7, help="the median of which counts")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precisions", nargs="+", default=["mixed_bfloat16", "float32"])
    parser.add_argument("--settings", nargs="*", choices=SETTINGS, help="ours with other settings too; none named: all")
    for flag in ("--serve", "--jit", "--convs", "--keras_sgd"):
        parser.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    for flag in ("--precision", "--without"):
        parser.add_argument(flag, help=argparse.SUPPRESS)
    for flag in ("--inter_op", "--loop"):
        parser.add_argument(flag, type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    serve(arguments) if arguments.serve else compare(arguments)
