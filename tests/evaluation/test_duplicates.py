"""Near-duplicates against brute force, and against copies made on purpose."""

import numpy as np
import pytest

from bitkeras.evaluation import duplicates
from bitkeras.evaluation.duplicates import NEAR, find_nearest, fit_whitening


def rows(number, seed=0, size=12):
    """Correlated features of very unequal variance, far from zero, as pooled features are."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(np.random.default_rng(99).normal(size=(size, size)))[0]
    mix = np.logspace(0, -1.2, size)[:, None] * directions
    return (5 + rng.normal(size=(number, size)) @ mix).astype(np.float32)


def blocks(features, size):
    for start in range(0, len(features), size):
        indices = np.arange(start, min(start + size, len(features)))
        yield 100 + indices, features[indices]


def test_whitened_features_are_uncorrelated_and_of_one_variance():
    features = rows(5000)
    whitening = fit_whitening(features)
    centred = (features - whitening.mean) @ whitening.matrix
    np.testing.assert_allclose(np.cov(centred.T), np.eye(12), atol=0.02)
    whitened = whitening(features)
    assert whitened.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(whitened, axis=1), 1, rtol=1e-5)
    # Unrelated images are at right angles; before, all of them looked alike.
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert abs(np.mean(whitened[:500] @ whitened[500:1000].T)) < 0.01 < 0.5 < np.mean(unit[:500] @ unit[500:1000].T)


def test_noise_is_not_blown_up_without_end():
    features = np.concatenate([rows(50), np.full([50, 1], 3, np.float32)], axis=1)
    features[0, -1] += 1e-6
    assert np.isfinite(fit_whitening(features)(features)).all()
    same = np.full([10, 4], 2.5, np.float32)
    assert (fit_whitening(same)(same) == 0).all()


@pytest.mark.parametrize("block", [1, 7, 300])
@pytest.mark.parametrize("entries", [1, 50, 2**24])
def test_nearest_against_brute_force(block, entries, monkeypatch):
    monkeypatch.setattr(duplicates, "_CHUNK_ENTRIES", entries)
    whitening = fit_whitening(rows(400))
    queries, bank = whitening(rows(23, seed=1)), whitening(rows(150, seed=2))
    found = find_nearest(queries, blocks(bank, block))
    for query, index, cosine in zip(queries, found.index, found.cosine):
        cosines = [float(np.dot(query, row)) for row in bank]
        assert cosine == pytest.approx(max(cosines), abs=1e-5) and cosines[index - 100] == pytest.approx(
            cosine, abs=1e-5
        )


def test_images_of_one_group_are_not_compared():
    whitening = fit_whitening(rows(400))
    features = whitening(rows(40, seed=3))
    groups = np.arange(140) % 7
    found = find_nearest(
        features, blocks(features, 9), query_groups=np.arange(40) % 7, bank_groups=np.arange(140) - 100
    )
    assert found.cosine.max() > 0.99
    found = find_nearest(features, blocks(features, 9), query_groups=groups[100:], bank_groups=groups)
    for query in range(40):
        strangers = [other for other in range(40) if groups[100 + other] != groups[100 + query]]
        expected = max(strangers, key=lambda other: float(features[query] @ features[other]))
        assert found.index[query] == 100 + expected
    alone = find_nearest(features, blocks(features, 9), query_groups=np.zeros(40), bank_groups=np.zeros(140))
    assert (alone.index == -1).all() and not alone.is_near.any()


def test_copies_are_near_and_strangers_are_not():
    bank, noise = rows(2000, size=12), np.random.default_rng(5).normal(size=(50, 12)) * 0.01
    copies, strangers = bank[:50] + noise, rows(50, seed=8)
    whitening = fit_whitening(bank)
    bank = whitening(bank)
    found = find_nearest(whitening(copies), blocks(bank, 256))
    assert found.is_near.all() and (found.index == 100 + np.arange(50)).all() and (found.cosine >= NEAR).all()
    assert find_nearest(whitening(strangers), []).cosine.max() == -2


@pytest.mark.parametrize("number", [30, 60, 120, 2000])
def test_copies_within_a_small_sample_are_near_and_strangers_are_not(number):
    """As many directions as images: each would have one of its own, and a copy too."""
    features = rows(number, size=256)
    noise = np.random.default_rng(5).normal(size=(5, 256)) * 0.05 * features.std(axis=0)
    sample = np.concatenate([features, features[:5] + noise])
    whitened = fit_whitening(sample)(sample)
    found = find_nearest(whitened[number:], blocks(whitened[:number], 64))
    assert found.is_near.all() and (found.index == 100 + np.arange(5)).all()
    cosines = whitened[:number] @ whitened[:number].T
    assert np.mean(np.triu(cosines, 1).max(axis=1) >= NEAR) < 0.05
