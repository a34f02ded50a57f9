import math

import numpy as np
import pytest

from bitkeras.evaluation.retention import compare_stages, retention_table
from bitkeras.evaluation.similarity import linear_cka, mean_cosine


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def slow_cosine(a, b):
    values = []
    for x, y in zip(a, b):
        dot = sum(p * q for p, q in zip(x, y))
        values.append(dot / math.sqrt(sum(p * p for p in x)) / math.sqrt(sum(q * q for q in y)))
    return sum(values) / len(values)


def slow_hsic(gram_a, gram_b):
    """Unbiased HSIC straight from its definition: a mean over quadruples of different images."""
    total, count, n = 0.0, 0, len(gram_a)
    for i in range(n):
        for j in range(n):
            for q in range(n):
                for r in range(n):
                    if len({i, j, q, r}) == 4:
                        total += gram_a[i, j] * (gram_b[i, j] + gram_b[q, r] - 2 * gram_b[i, q])
                        count += 1
    return total / count


def test_cosine_is_the_plain_formula(rng):
    a, b = rng.normal(1, 2, [7, 5]), rng.normal(1, 2, [7, 5])
    assert mean_cosine(a, b) == pytest.approx(slow_cosine(a, b))
    assert mean_cosine(a, b, centred=True) == pytest.approx(slow_cosine(a - a.mean(0), b - b.mean(0)))


def test_cosine_of_positive_features_needs_centring(rng):
    a, b = rng.uniform(size=[2, 200, 50])
    assert mean_cosine(a, b) > 0.7 and abs(mean_cosine(a, b, centred=True)) < 0.05
    assert mean_cosine(a, -a) == pytest.approx(-1) and mean_cosine(a, 3 * a) == pytest.approx(1)


def test_debiased_cka_is_its_definition(rng):
    a = rng.normal(size=[8, 3])
    b = a @ rng.normal(size=[3, 4]) + rng.normal(size=[8, 4])
    grams = a @ a.T, b @ b.T
    expected = slow_hsic(*grams) / math.sqrt(slow_hsic(*grams[:1] * 2) * slow_hsic(*grams[1:] * 2))
    assert linear_cka(a, b) == pytest.approx(expected)


def test_plain_cka_is_the_formula_of_kornblith(rng):
    a, b = rng.normal(size=[30, 6]), rng.normal(size=[30, 4])
    x, y = a - a.mean(0), b - b.mean(0)
    expected = np.linalg.norm(y.T @ x) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
    assert linear_cka(a, b, debiased=False) == pytest.approx(expected)


@pytest.mark.parametrize("debiased", [True, False])
def test_cka_ignores_rotation_scale_and_offset_but_no_other_map(rng, debiased):
    a = rng.normal(size=[60, 12])
    rotation, _ = np.linalg.qr(rng.normal(size=[12, 12]))
    assert linear_cka(a, 1e-20 * a @ rotation + 5e-20, debiased=debiased) == pytest.approx(1)
    assert linear_cka(a, 1e25 * a, debiased=debiased) == pytest.approx(1)
    assert linear_cka(a, a * 10.0 ** rng.normal(size=12), debiased=debiased) < 0.95


def test_unrelated_features_have_no_alignment_only_without_bias(rng):
    a, b = rng.normal(size=[2, 100, 100])
    assert abs(linear_cka(a, b)) < 0.05 and linear_cka(a, b, debiased=False) > 0.4


@pytest.mark.parametrize(("a", "b"), [(np.ones([9, 2]), np.eye(9)), (np.eye(3), np.eye(3))])
def test_what_has_no_alignment_is_nan(a, b):
    assert math.isnan(linear_cka(a, b))


def test_stages_that_are_no_numbers_are_told(rng):
    before = {name: rng.normal(size=[20, 4]) for name in ("same", "infinite", "constant")}
    after = {"same": before["same"] * 2, "infinite": before["infinite"].copy(), "constant": np.ones([20, 4])}
    after["infinite"][3, 1] = np.inf
    compared = compare_stages(before, after)
    assert compared["same"] == pytest.approx({"cosine": 1, "cosine_centred": 1, "cka": 1})
    assert set(compared["infinite"].values()) == {None}
    assert compared["constant"]["cka"] is None and compared["constant"]["cosine"] is not None
    assert set(compared["overall"].values()) == {None}
    table = retention_table(compared)
    assert table[1].split() == ["same", "1.000", "1.000", "1.000"] and table[2].count("no number") == 3


def test_overall_is_the_mean_over_stages(rng):
    before = {name: rng.normal(size=[20, 4]) for name in "ab"}
    compared = compare_stages(before, {"a": before["a"], "b": -before["b"]})
    assert compared["overall"]["cosine"] == pytest.approx(0) and compared["overall"]["cka"] == pytest.approx(1)
