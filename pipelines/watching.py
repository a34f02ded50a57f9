"""What is looked at while an encoder is pre-trained: held-out images, signs of collapse, TensorBoard."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from bitkeras.callbacks import FeatureMonitor, RunLog
from bitkeras.callbacks.embedding import SPRITE_SIZE, projector_indices, write_projector
from bitkeras.callbacks.graph import write_graph
from bitkeras.callbacks.histograms import NormHistograms, write_norm_histograms
from bitkeras.callbacks.hparams import final_scores, write_hparams
from bitkeras.callbacks.monitors import evenly
from bitkeras.data.batches import image_batches, view_batches
from bitkeras.evaluation.features import encode
from pipelines.job import Job
from pipelines.runtime import say

# Pairs whose views stay the same, for the alignment.
NUM_PAIRS = 64
# Of a source without labels.
NUM_UNLABELLED = 1000


def build_monitor(job: Job, encoder: tf.keras.Model, projector: tf.keras.Model | None = None) -> FeatureMonitor:
    """Neighbours of the probe's validation part in its training part; the test part is never looked at here.

    A source without labels has no such parts, and images that are trained on are looked at.
    """
    if job.source.labels is None:
        return FeatureMonitor(encoder, **_figures_of_collapse(job, evenly(job.indices, NUM_UNLABELLED), projector))
    # An image costs a step three passes for each of its two views: this is a thirtieth of an epoch for both parts.
    limit = max(256, len(job.indices) // 10)
    bank, queries = (evenly(job.split.indices(part), limit) for part in ("probe_train", "probe_val"))
    return FeatureMonitor(
        encoder,
        **_figures_of_collapse(job, queries, projector),
        bank=job.images(bank),
        bank_labels=job.source.labels[bank],
        query_labels=job.source.labels[queries],
        num_classes=len(job.source.class_names),
        k=job.config["knn_k"],
        temperature=job.config["knn_temperature"],
    )


def _figures_of_collapse(job: Job, queries: np.ndarray, projector: tf.keras.Model | None) -> dict:
    pairs = view_batches(
        job.source,
        queries,
        policy=job.config["views"],
        image_size=job.config["image_size"],
        batch_size=min(NUM_PAIRS, len(queries)),
        seed=job.config["seed"],
    )
    return {"queries": job.images(queries), "projector": projector, "view_pairs": next(iter(pairs))}


def measure_start(monitor: FeatureMonitor, log: RunLog) -> None:
    """The numbers before training, as epoch 0."""
    try:
        log.record(0, monitor.measure())
    except FloatingPointError:
        # Raw BiT kernels behind BN at mean 0 and variance 1 can overflow until the first batches have been seen.
        say("before training the features are not finite, since the BN statistics are those of no image; no epoch 0")


def draw_start(job: Job, log: RunLog, encoder: tf.keras.Model, trainer: tf.keras.Model) -> None:
    """What TensorBoard shows from the start: graph, statistics, and the row of the run."""
    write_graph(log.writer, encoder)
    write_norm_histograms(log.writer, trainer, step=0)
    write_hparams(job.run.tensorboard_path / "hparams", job.config)


def draw_norms(job: Job, log: RunLog) -> NormHistograms:
    """The callback that draws the statistics of batch norm."""
    return NormHistograms(log.writer, num_epochs=job.config["epochs"])


def draw_end(job: Job, encoder: tf.keras.Model) -> None:
    """What TensorBoard shows of the finished encoder: the scores of the run, and its features of held-out images."""
    scores = final_scores(job.run.metrics())
    write_hparams(job.run.tensorboard_path / "hparams", job.config, scores, step=job.config["epochs"])
    labels = job.source.labels
    shown = projector_indices(job.split.indices("pretrain" if labels is None else "probe_val"))
    try:
        features = encode(encoder, job.images(shown))
    except FloatingPointError:
        say("the features are not finite, so TensorBoard's projector has nothing to show")
        return
    write_projector(
        job.run.tensorboard_path / "pretrain",
        features,
        image_batches(job.source, shown, image_size=SPRITE_SIZE, batch_size=64),
        image_ids=job.source.image_ids[shown],
        labels=None if labels is None else labels[shown],
        class_names=job.source.class_names,
    )
