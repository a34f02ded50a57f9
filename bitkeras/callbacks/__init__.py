"""What happens around the steps of a training: measure, write down, draw, keep, guard, tell."""

from __future__ import annotations

from bitkeras.callbacks.checkpoint import RunCheckpoint, Stopped
from bitkeras.callbacks.divergence import Diverged, LossGuard
from bitkeras.callbacks.monitors import AccuracyMonitor, FeatureMonitor
from bitkeras.callbacks.progress import PlainProgress, Throughput, make_progress
from bitkeras.callbacks.run_log import RunLog

__all__ = [
    "AccuracyMonitor",
    "Diverged",
    "FeatureMonitor",
    "LossGuard",
    "PlainProgress",
    "RunCheckpoint",
    "RunLog",
    "Stopped",
    "Throughput",
    "make_progress",
]
