import numpy as np
import pytest

from bitkeras.schedules import scaled_lr, undo, warmup_cosine, warmup_staircase


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


def test_bits_staircase_falls_at_30_60_and_80_of_90_epochs():
    schedule = warmup_staircase(0.8, num_steps=900, warmup_steps=100)
    points = {0: 0.0, 50: 0.4, 100: 0.8, 300: 0.8, 301: 0.08, 600: 0.08, 601: 0.008, 800: 0.008, 801: 0.0008}
    np.testing.assert_allclose([float(schedule(step)) for step in points], list(points.values()), rtol=1e-5)
    without = warmup_staircase(0.8, num_steps=900)
    np.testing.assert_allclose([float(without(step)) for step in (0, 300, 301)], [0.8, 0.8, 0.08], rtol=1e-5)
