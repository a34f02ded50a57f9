"""What a probe costs: all trials on features, the whole of it against training through the network, and kNN.

    python docs/results/probe.py probe --data_dir=HAM10000 --run_dir=RUN
    python docs/results/probe.py knn --num_images=100000 --num_features=512

`probe` makes RUN first, where it is not there yet: the network `bit-m-mini` with batch norm, on the images of the
lesion split. Then, in turns, features and all trials with the whole grid, without any cache, and the same head trained
on top of the frozen network, which runs forwards in every epoch. Of the latter it times a few epochs and multiplies.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
import tensorflow as tf

from bitkeras.data import read_source
from bitkeras.data.batches import labelled_batches, num_steps_per_epoch
from bitkeras.data.split_files import load_split
from bitkeras.evaluation.focal import focal_loss
from bitkeras.evaluation.knn import knn_probabilities
from bitkeras.evaluation.probe import LR_GRID, WEIGHT_DECAY_GRID
from bitkeras.runs import RunFolder
from pipelines import cli
from pipelines.encoder_scores import EncoderScores

OPTIONS = {"trials": 3, "epochs": 100, "focal_gamma": 4.0, "balanced": False, "seed": 0}
GRIDS = {"lr_grid": LR_GRID, "weight_decay_grid": WEIGHT_DECAY_GRID}
OPTIONS |= {flag: ",".join(map(str, grid)) for flag, grid in GRIDS.items()}
RUN = "--flagfile=laptop --split=lesion --weights=bit-m-mini --swap=preserve --epochs=0"
BATCH_SIZE = 128


def clock() -> np.ndarray:
    """[2]: seconds on the wall, and those that all threads of this process computed, which other work leaves alone."""
    return np.array([time.perf_counter(), time.process_time()])


def train_through(encoder: tf.keras.Model, scores: EncoderScores, *, epochs: int) -> np.ndarray:
    """`clock` seconds of `OPTIONS["epochs"]` epochs of one head on the frozen network, of which it runs 1 + `epochs`.

    An epoch is a pass over the training part and one over the validation part; last comes one over the test part.
    """
    head = tf.keras.layers.Dense(scores.num_classes)
    encoder.trainable = False
    optimizer = tf.keras.optimizers.AdamW(1e-3, weight_decay=0.0)
    indices = scores.indices["probe_train"]
    # Random crops are what training through the network could do and features cannot; here they are whole images.
    shape = {"crop_area": (1.0, 1.0), "image_size": scores.config["image_size"], "batch_size": BATCH_SIZE, "seed": 0}
    batches = iter(labelled_batches(scores.source, indices, **shape))

    @tf.function(reduce_retracing=True)
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(focal_loss(labels, head(encoder(images, training=False)), gamma=4.0))
        gradients = tape.gradient(loss, head.trainable_variables)
        optimizer.apply_gradients(zip(gradients, head.trainable_variables))

    @tf.function(reduce_retracing=True)
    def classify(images):
        return tf.argmax(head(encoder(images, training=False)), axis=-1)

    seconds = []
    for _ in range(1 + epochs):
        started = clock()
        for _ in range(num_steps_per_epoch(len(indices), BATCH_SIZE)):
            batch = next(batches)
            step(batch["images"], batch["labels"])
        for images in scores.batches(scores.indices["probe_val"]):
            classify(images).numpy()
        seconds.append(clock() - started)
    started = clock()
    for images in scores.batches(scores.indices["test"]):
        classify(images).numpy()
    # The first compiles.
    return seconds[0] + (OPTIONS["epochs"] - 1) * np.median(seconds[1:], axis=0) + clock() - started


def probe(options: argparse.Namespace) -> None:
    """Prints a line for each turn, and the medians."""
    run = RunFolder(options.run_dir)
    if not run.is_finished:
        cli.run("pretrain", [*RUN.split(), f"--data_dir={options.data_dir}", f"--run_dir={run.path}"])
    config = run.config()
    source = read_source(config["dataset"], config["data_dir"])
    scores = EncoderScores(config, OPTIONS, source, load_split(run.split_path, source))
    num_heads = OPTIONS["trials"] * len(LR_GRID) * len(WEIGHT_DECAY_GRID)
    print({part: len(indices) for part, indices in scores.indices.items()}, f"{num_heads} heads", flush=True)
    found = []
    for turn in range(options.turns):
        encoder = tf.keras.models.load_model(run.encoder_path)
        started = clock()
        features = scores.features(encoder)
        encoded = clock()
        result = scores.probe(features)
        trained = clock()
        through = train_through(encoder, scores, epochs=options.epochs)
        found.append((encoded - started, trained - encoded, through, through / (trained - started)))
        print(f"turn {turn}: {line(found[-1])}; rate {result.lr:g}, decay {result.weight_decay:g}", flush=True)
        tf.keras.backend.clear_session()
    medians = np.median(found, axis=0)
    print(f"medians: {line(medians)}")
    print("all heads through the network, one after the other: {:.0f}x, {:.0f}x".format(*num_heads * medians[3]))


def line(numbers: np.ndarray) -> str:
    """One turn, [4, 2], in words: wall and computing time of each."""
    encode, heads, through, ratio = (
        f"{wall:.{digits}f}, {computing:.{digits}f}" for (wall, computing), digits in zip(numbers, (2, 2, 0, 1))
    )
    return f"encode {encode} s; all heads {heads} s; one head through the network {through} s: {ratio} times"


def knn(options: argparse.Namespace) -> None:
    """Prints seconds and peak memory of one classification of random features."""
    rng = np.random.default_rng(0)
    num_queries = options.num_queries or options.num_images
    bank, queries = (
        rng.standard_normal([rows, options.num_features], np.float32) for rows in (options.num_images, num_queries)
    )
    labels = rng.integers(0, 7, options.num_images)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = clock()
    votes = knn_probabilities(bank, labels, queries, num_classes=7, k=200, temperature=0.07)
    wall, computing = clock() - started
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    given = (bank.nbytes + queries.nbytes) / 1e9
    print(f"{num_queries:,} x {options.num_images:,}, {options.num_features} features, {given:.2f} GB given")
    print(f"{wall:.0f} s, computing {computing:.0f} s; {(after - before) * 1024 / 1e9:.2f} GB more than before")
    print(f"rows sum to {votes.sum(axis=1).mean():.4f}")


def main() -> None:
    """One of the two measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("probe")
    one.add_argument("--data_dir", required=True)
    one.add_argument("--run_dir", required=True)
    one.add_argument("--turns", type=int, default=3)
    one.add_argument("--epochs", type=int, default=3, help="through the network, after one that compiles")
    one.set_defaults(command=probe)
    other = commands.add_parser("knn")
    other.add_argument("--num_images", type=int, default=100_000)
    other.add_argument("--num_queries", type=int, help="none: as many")
    other.add_argument("--num_features", type=int, default=512)
    other.set_defaults(command=knn)
    options = parser.parse_args()
    options.command(options)


if __name__ == "__main__":
    main()
