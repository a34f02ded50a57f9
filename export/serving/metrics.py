"""Counts and times for Prometheus, under TensorFlow Serving's names where it has them.

Text exposition format 0.0.4: a line a number, which is too little for a library.
"""

from __future__ import annotations

import bisect
import collections
import threading
from collections.abc import Iterable, Iterator

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Microseconds, as in TensorFlow Serving: from 1 ms to a minute by the factor 1.8.
BUCKETS = tuple(round(1000 * 1.8**power) for power in range(19))


class Metrics:
    """Requests by model, API, entry and code, with a histogram of their times."""

    def __init__(self):
        self._lock = threading.Lock()
        self._counts: collections.Counter = collections.Counter()
        self._times: dict[tuple, list] = {}

    def count(self, *, model: str, api: str, entrypoint: str, code: str, seconds: float) -> None:
        """One request; `model` is empty for a name that is not served, lest clients make labels without end."""
        micros = seconds * 1e6
        with self._lock:
            self._counts[model, api, entrypoint, code] += 1
            row = self._times.setdefault((model, api, entrypoint), [[0] * (len(BUCKETS) + 1), 0.0])
            row[0][bisect.bisect_left(BUCKETS, micros)] += 1
            row[1] += micros

    def text(self, gauges: Iterable[tuple[str, str, dict[str, str], float]]) -> str:
        """All numbers, and gauges of (name, what it is, labels, value)."""
        with self._lock:
            counts = sorted(self._counts.items())
            times = sorted((key, list(row[0]), row[1]) for key, row in self._times.items())
        lines = [*_head(":tensorflow:serving:request_count", "counter", "Requests by status code.")]
        for (model, api, entrypoint, code), count in counts:
            labels = {"model_name": model, "API": api, "entrypoint": entrypoint, "status": code}
            lines.append(_line(":tensorflow:serving:request_count", labels, count))
        lines += _head(":tensorflow:serving:request_latency", "histogram", "Microseconds of a request.")
        for (model, api, entrypoint), buckets, total in times:
            labels = {"model_name": model, "API": api, "entrypoint": entrypoint}
            lines += _histogram(":tensorflow:serving:request_latency", labels, buckets, total)
        told = set()
        for name, what, labels, value in gauges:
            if name not in told:
                lines += _head(name, "gauge", what)
                told.add(name)
            lines.append(_line(name, labels, value))
        return "\n".join(lines) + "\n"


def _histogram(name: str, labels: dict[str, str], buckets: list[int], total: float) -> Iterator[str]:
    cumulated = 0
    for bound, count in zip([*map(str, BUCKETS), "+Inf"], buckets):
        cumulated += count
        yield _line(f"{name}_bucket", {**labels, "le": bound}, cumulated)
    yield _line(f"{name}_sum", labels, round(total))
    yield _line(f"{name}_count", labels, cumulated)


def _head(name: str, kind: str, what: str) -> list[str]:
    return [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]


def _line(name: str, labels: dict[str, str], value: float) -> str:
    written = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{name}{{{written}}} {value}" if written else f"{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
