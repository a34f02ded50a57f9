"""What happens at the end of an epoch: measure, write down, draw, keep, tell."""

from __future__ import annotations

from bitkeras.callbacks.checkpoint import EpochCheckpoint
from bitkeras.callbacks.monitors import AccuracyMonitor, FeatureMonitor
from bitkeras.callbacks.progress import PlainProgress, Throughput, make_progress
from bitkeras.callbacks.run_log import RunLog

__all__ = [
    "AccuracyMonitor",
    "EpochCheckpoint",
    "FeatureMonitor",
    "PlainProgress",
    "RunLog",
    "Throughput",
    "make_progress",
]
