"""Peak memory and time of a SimSiam step, with all activations kept and with recomputation.

    python docs/results/recompute.py --backbone=R50x1 --image_size=224 --batch_size=16

Each arm has a process of its own (Linux: the peak is read from /proc). An arm takes a step of two images first, so that
nothing of the compilation is measured, then steps of half the batch and of the whole one: the difference is what an
image costs, both views of it, and what a larger batch would take follows from it. Views are noise, on which neither
time nor memory depends.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ARMS = ("kept", "recomputed")
HEADER = (
    "| precision | activations | peak, batch {small} | batch {large} | per image | batch {target} would take | step |"
)


def peak_bytes() -> int:
    """Most resident memory of this process since `forget_peak`."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    """Starts the peak anew, from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def build_step(backbone: str, *, norm: str, recompute: bool):
    """One compiled training step of SimSiam with the paper's heads: a batch of views -> metrics."""
    import tensorflow as tf

    from bitkeras.backbones import build_backbone
    from bitkeras.backbones.matmul_convs import use_matmuls
    from bitkeras.backbones.recompute import recomputing
    from bitkeras.methods import SimSiam
    from bitkeras.sgd import SGD

    encoder = build_backbone(backbone, norm=norm)
    use_matmuls(encoder)
    trainer = SimSiam(encoder)
    if recompute:
        trainer.forward = recomputing(encoder)
    trainer.compile(optimizer=SGD(1e-3, momentum=0.9))
    views = tf.TensorSpec([None, None, None, 3])
    return tf.function(trainer.train_step, input_signature=[{"views_a": views, "views_b": views}])


def measure(options: argparse.Namespace) -> None:
    """Prints peak bytes at half the batch, peak bytes at the batch, and seconds a step at the batch."""
    import tensorflow as tf

    tf.keras.mixed_precision.set_global_policy(options.arm_precision)
    tf.keras.utils.set_random_seed(0)
    step = build_step(options.backbone, norm=options.norm, recompute=options.arm == "recomputed")
    found = []
    for batch_size in (2, options.batch_size // 2, options.batch_size):
        shape = [batch_size, options.image_size, options.image_size, 3]
        views = {name: tf.random.uniform(shape, -1, 1) for name in ("views_a", "views_b")}
        forget_peak()
        seconds = []
        for _ in range(1 + options.steps if batch_size > 2 else 1):
            started = time.perf_counter()
            float(step(views)["loss"])
            seconds.append(time.perf_counter() - started)
        found.append(peak_bytes())
    # The first step of a batch size prepares the convolutions for it.
    print(found[1], found[2], statistics.median(seconds[1:]))


def run_arm(options: argparse.Namespace, precision: str, arm: str) -> tuple[float, float, float]:
    """What `measure` prints, from a new process."""
    command = [sys.executable, __file__, *sys.argv[1:], f"--arm={arm}", f"--arm_precision={precision}"]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    small, large, seconds = (float(word) for word in told.split()[-3:])
    return small, large, seconds


def compare(options: argparse.Namespace) -> None:
    """Prints the rows of a table."""
    large, small = options.batch_size, options.batch_size // 2
    print(HEADER.format(small=small, large=large, target=options.target))
    print("|---|---|---|---|---|---|---|")
    for precision in options.precisions:
        baseline = None
        for arm in ARMS:
            low, high, seconds = run_arm(options, precision, arm)
            baseline = baseline or seconds
            image = (high - low) / (large - small)
            expected = high + image * (options.target - large)
            cells = [precision, arm, *(f"{x / 1e9:.2f} GB" for x in (low, high)), f"{image / 1e6:.0f} MB"]
            cells += [f"{expected / 1e9:.1f} GB", f"{seconds:.2f} s ({seconds / baseline:.2f}x)"]
            print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Compares the arms, or is one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="R50x1")
    parser.add_argument("--norm", default="batch", choices=["batch", "group"])
    parser.add_argument("--image_size", type=int, default=224, help="px")
    parser.add_argument("--batch_size", type=int, default=16, help="images a step; there are two views of each")
    parser.add_argument("--target", type=int, default=128, help="the batch to extrapolate to")
    parser.add_argument("--steps", type=int, default=5, help="of which the median time is taken")
    parser.add_argument("--precisions", nargs="+", default=["float32", "mixed_bfloat16"])
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--arm_precision", help=argparse.SUPPRESS)
    options = parser.parse_args()
    measure(options) if options.arm else compare(options)


if __name__ == "__main__":
    main()
