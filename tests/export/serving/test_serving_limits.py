"""The gate and the count of bytes, under many threads."""

from __future__ import annotations

import threading
import time

import pytest

from export.serving.errors import RequestError
from export.serving.limits import Gate, HeldBytes


def test_no_more_than_allowed_are_inside_and_all_get_through():
    gate, lock, inside, most, done = Gate(3, 1000), threading.Lock(), [0], [0], []

    def work():
        for _ in range(50):
            with gate.admitted(30):
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                time.sleep(0.0002)
                with lock:
                    inside[0] -= 1
                    done.append(1)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 1000 and most[0] == 3 and gate.in_flight == gate.queued == 0


def test_the_first_come_is_served_first_and_one_too_many_is_refused_at_once():
    gate, order, threads = Gate(1, 3), [], []

    def wait(number):
        with gate.admitted(30):
            order.append(number)

    with gate.admitted(1):
        for number in range(3):
            threads.append(threading.Thread(target=wait, args=[number]))
            threads[-1].start()
            while gate.queued < number + 1:
                time.sleep(0.001)
        started = time.monotonic()
        with pytest.raises(RequestError, match="3 wait") as refused, gate.admitted(30):
            pass
        assert refused.value.code == "RESOURCE_EXHAUSTED" and refused.value.http_status == 429
        assert time.monotonic() - started < 1 and not order
    for thread in threads:
        thread.join(10)
    assert order == [0, 1, 2] and gate.in_flight == 0


def test_who_waits_too_long_is_told_and_leaves_the_queue():
    gate = Gate(1, 3)
    with gate.admitted(1):
        with pytest.raises(RequestError) as late, gate.admitted(0.05):
            pass
        assert late.value.code == "DEADLINE_EXCEEDED" and late.value.http_status == 504 and gate.queued == 0
    with gate.admitted(0.05):
        assert gate.in_flight == 1


def test_an_error_inside_gives_the_place_back():
    gate = Gate(1, 0)
    with pytest.raises(KeyError), gate.admitted(1):
        raise KeyError
    with gate.admitted(1):
        pass


def test_bytes_are_counted_and_given_back():
    held = HeldBytes(10)
    with held.holding(6):
        with pytest.raises(RequestError) as refused, held.holding(5):
            pass
        assert refused.value.code == "RESOURCE_EXHAUSTED"
        with held.holding(4):
            assert held.bytes == 10
    assert held.bytes == 0
