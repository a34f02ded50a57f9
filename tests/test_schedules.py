import numpy as np
import pytest

from bitkeras.schedules import scaled_lr, undo, warmup_cosine


def test_the_base_rate_is_per_256_images():
    assert scaled_lr(0.03, 256) == 0.03
    assert scaled_lr(0.05, 512) == pytest.approx(0.1)
    assert scaled_lr(0.03, 128) == pytest.approx(0.015)


@pytest.mark.parametrize(
    ("warmup_steps", "points"),
    [
        # cos(pi/3) = 1/2, so at a third of the way 3/4 of the rate are left.
        (0, {0: 0.8, 40: 0.6, 60: 0.4, 80: 0.2, 120: 0.0, 200: 0.0}),
        (30, {0: 0.0, 15: 0.4, 30: 0.8, 60: 0.6, 75: 0.4, 90: 0.2, 120: 0.0, 200: 0.0}),
    ],
)
def test_warm_up_and_half_a_cosine(warmup_steps, points):
    schedule = warmup_cosine(0.8, num_steps=120, warmup_steps=warmup_steps)
    np.testing.assert_allclose([float(schedule(step)) for step in points], list(points.values()), atol=1e-6)


def test_an_undone_schedule_is_constant_where_it_is_not_zero():
    schedule = warmup_cosine(0.8, num_steps=12, warmup_steps=4)
    factor = undo(schedule, 0.5)
    # At a rate of 0 nothing can move.
    rates = [float(factor(step) * schedule(step)) for step in range(12)]
    np.testing.assert_allclose(rates, [0, *[0.5] * 11], rtol=1e-5)
