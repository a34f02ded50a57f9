"""What kNN and the collapse sentinel cost of an epoch: the last line of speed.md.

    python docs/results/monitor_cost.py --data_dir=HAM10000

Processor time, which what else the machine does moves less than the clock: of steps, times the steps of an epoch, and
of what is done once after each epoch. The smaller the network and the images, the larger the share: the defaults are
those of the preset `laptop`.
"""

from __future__ import annotations

import argparse
import time

import tensorflow as tf

from bitkeras.backbones import build_backbone
from bitkeras.backbones.matmul_convs import use_matmuls
from bitkeras.callbacks.monitors import FeatureMonitor, evenly
from bitkeras.data import read_source
from bitkeras.data.batches import image_batches, view_batches
from bitkeras.data.splits import SPLITS
from bitkeras.methods import SimSiam
from bitkeras.sgd import SGD


def measure(options: argparse.Namespace) -> None:
    """Prints seconds of processor time and the share."""
    source = read_source("ham10000", options.data_dir)
    split = SPLITS["lesion"](source, seed=0)
    train, bank, queries = (split.indices(part) for part in ("pretrain", "probe_train", "probe_val"))
    # As `pipelines.watching` has it.
    bank, queries = (evenly(indices, max(256, len(train) // 10)) for indices in (bank, queries))
    tf.keras.mixed_precision.set_global_policy(options.precision)
    tf.keras.utils.set_random_seed(0)
    encoder = build_backbone(options.backbone, norm="batch")
    use_matmuls(encoder)
    trainer = SimSiam(encoder, num_projections=512, num_predictor_hidden=128)
    trainer.compile(optimizer=SGD(0.06, momentum=0.9))
    sizes = {"image_size": options.image_size, "batch_size": options.batch_size}
    views = view_batches(source, train, policy="simsiam", **sizes, seed=0)
    pairs = next(iter(view_batches(source, queries, policy="simsiam", image_size=64, batch_size=64, seed=1)))
    monitor = FeatureMonitor(
        encoder,
        queries=image_batches(source, queries, **sizes),
        bank=image_batches(source, bank, **sizes),
        bank_labels=source.labels[bank],
        query_labels=source.labels[queries],
        num_classes=len(source.class_names),
        k=20,
        view_pairs={name: pairs[name].numpy() for name in ("views_a", "views_b", "index")},
        projector=trainer.projector,
    )

    def epoch(steps: int) -> float:
        started = time.process_time()
        trainer.fit(views, steps_per_epoch=steps, verbose=0)
        return time.process_time() - started

    def look() -> float:
        started = time.process_time()
        monitor.measure()
        return time.process_time() - started

    # Both are traced, and the monitor reads its images, the first time.
    epoch(3), look()
    per_epoch = epoch(options.steps) / options.steps * (len(train) // options.batch_size)
    looks = [look() for _ in range(3)]
    print(f"an epoch of {len(train) // options.batch_size} steps: {per_epoch:.1f} s of processor time")
    print(f"kNN and sentinel: {', '.join(f'{seconds:.2f}' for seconds in looks)} s")
    print(f"share: {', '.join(f'{seconds / per_epoch:.1%}' for seconds in looks)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--backbone", default="R26x0.25")
    parser.add_argument("--image_size", type=int, default=64, help="px")
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--precision", default="mixed_bfloat16")
    parser.add_argument("--steps", type=int, default=12, help="that are timed")
    measure(parser.parse_args())
