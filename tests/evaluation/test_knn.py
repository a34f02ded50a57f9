import tracemalloc
import warnings

import numpy as np
import pytest
from reference import evaluation_reference as reference
from sklearn.neighbors import KNeighborsClassifier

from bitkeras.errors import UserError
from bitkeras.evaluation import knn
from bitkeras.evaluation.knn import knn_balanced_accuracy, knn_probabilities, unit_rows


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def problem(num_bank=60, num_queries=23, dims=6, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    bank, queries = (rng.normal(0.3, 1, [n, dims]).astype(np.float32) for n in (num_bank, num_queries))
    return bank, rng.integers(0, classes, num_bank), queries, rng.integers(0, classes, num_queries)


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (5, 0.07), (20, 0.2), (60, 1.0)])
def test_votes_are_those_of_a_triple_loop(k, temperature):
    bank, labels, queries, _ = problem()
    votes = knn_probabilities(bank, labels, queries, num_classes=4, k=k, temperature=temperature)
    expected = reference.knn_probabilities(bank, labels, queries, 4, k, temperature)
    np.testing.assert_allclose(votes, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(votes.sum(axis=1), 1, rtol=1e-6)
    assert votes.dtype == np.float32


@pytest.mark.parametrize("temperature", [0.07, 0.2])
def test_predictions_are_those_of_scikit_learn(temperature):
    bank, labels, queries, _ = problem(300, 200, 12, 5)
    model = KNeighborsClassifier(
        n_neighbors=20, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / temperature)
    ).fit(bank.astype(np.float64), labels)
    votes = knn_probabilities(bank, labels, queries, num_classes=5, k=20, temperature=temperature)
    np.testing.assert_allclose(votes, model.predict_proba(queries.astype(np.float64)), rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(votes.argmax(axis=1), model.predict(queries.astype(np.float64)))


def test_by_hand():
    # Cosines 1, 0.6 and 0: the votes of k = 2 are e^1 and e^0.6.
    bank = np.float32([[2, 0], [3, 4], [0, 1]])
    votes = knn_probabilities(bank, [2, 0, 1], np.float32([[5, 0]]), num_classes=3, k=2, temperature=1.0)
    e1, e06 = np.exp(1.0), np.exp(0.6)
    np.testing.assert_allclose(votes, [[e06 / (e1 + e06), 0, e1 / (e1 + e06)]], rtol=1e-6)


def test_k_above_the_bank_is_the_whole_bank():
    bank, labels, queries, _ = problem()
    np.testing.assert_array_equal(
        knn_probabilities(bank, labels, queries, num_classes=4, k=10**6),
        knn_probabilities(bank, labels, queries, num_classes=4, k=len(bank)),
    )


def test_a_class_absent_from_the_bank_gets_no_vote_and_one_absent_from_the_queries_does_not_count():
    bank, _, queries, _ = problem()
    votes = knn_probabilities(bank, np.full(60, 1), queries, num_classes=3)
    np.testing.assert_array_equal(votes, np.tile([0, 1, 0], [23, 1]))
    own = np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert knn_balanced_accuracy(own, [0, 1, 2], own[:2], [0, 1], num_classes=3, k=1) == 1
    # Class 2 is asked for and cannot be named: recalls 1, 1 and 0.
    score = knn_balanced_accuracy(own[:2], [0, 1], own, [0, 1, 2], num_classes=3, k=1)
    assert score == pytest.approx(2 / 3)


@pytest.mark.parametrize("temperature", [1e-3, 1e-6, 1e-30])
def test_a_tiny_temperature_leaves_the_vote_to_the_nearest(temperature):
    bank, labels, queries, _ = problem()
    votes = knn_probabilities(bank, labels, queries, num_classes=4, k=30, temperature=temperature)
    nearest = knn_probabilities(bank, labels, queries, num_classes=4, k=1)
    assert np.isfinite(votes).all()
    np.testing.assert_array_equal(votes.argmax(axis=1), nearest.argmax(axis=1))


@pytest.mark.parametrize("entries", [1, 60 * 5, 60 * 23])
def test_chunks_change_nothing(monkeypatch, entries):
    bank, labels, queries, _ = problem()
    whole = knn_probabilities(bank, labels, queries, num_classes=4, k=7)
    monkeypatch.setattr(knn, "_CHUNK_ENTRIES", entries)
    parts = knn_probabilities(bank, labels, queries, num_classes=4, k=7)
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-6)


def test_the_length_of_a_row_does_not_matter():
    bank, labels, queries, _ = problem()
    lengths = np.float32(10) ** np.random.default_rng(1).integers(-30, 30, [60, 1]).astype(np.float32)
    np.testing.assert_allclose(
        knn_probabilities(bank * lengths, labels, queries * np.float32(1e-25), num_classes=4, k=7),
        knn_probabilities(bank, labels, queries, num_classes=4, k=7),
        rtol=1e-4,
        atol=1e-6,
    )
    np.testing.assert_allclose(np.linalg.norm(unit_rows(bank * lengths), axis=1), 1, rtol=1e-5)


def test_zero_rows_stay_zero_and_vote_no_nan():
    bank, labels, queries, _ = problem()
    bank[3], queries[2] = 0, 0
    assert not unit_rows(bank)[3].any()
    assert np.isfinite(knn_probabilities(bank, labels, queries, num_classes=4, k=60)).all()


def test_score_is_the_reference_score():
    bank, labels, queries, query_labels = problem()
    votes = reference.knn_probabilities(bank, labels, queries, 4, 9, 0.07)
    score = knn_balanced_accuracy(bank, labels, queries, query_labels, num_classes=4, k=9)
    assert score == pytest.approx(reference.balanced_accuracy(query_labels, votes.argmax(axis=1)))


def test_random_labels_score_chance_and_clusters_score_one():
    bank, labels, queries, query_labels = problem(2000, 2000, 16, 4)
    # Standard deviation of the score of 2,000 guesses: about 0.01.
    assert abs(knn_balanced_accuracy(bank, labels, queries, query_labels, num_classes=4, k=20) - 0.25) < 0.05
    centres = 8 * np.eye(4, 16, dtype=np.float32)
    score = knn_balanced_accuracy(
        bank + centres[labels], labels, queries + centres[query_labels], query_labels, num_classes=4
    )
    assert score > 0.99


@pytest.mark.parametrize("wrong", [{"k": 0}, {"temperature": 0.0}, {"temperature": -1.0}])
def test_settings_that_mean_nothing_are_refused(wrong):
    bank, labels, queries, _ = problem()
    with pytest.raises(UserError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}"):
        knn_probabilities(bank, labels, queries, num_classes=4, **wrong)


def test_an_empty_bank_is_refused():
    with pytest.raises(UserError, match="empty bank"):
        knn_probabilities(np.zeros([0, 3]), np.zeros(0, int), np.ones([2, 3]), num_classes=2)


def test_memory_is_that_of_one_chunk_however_many_are_compared():
    # 700 queries with a bank of 100,000 would take 840 MB at once: 4 bytes a cosine and 8 for its place in the order.
    # A bank of 1e5 with 1e5 queries holds the same chunk, 143 times as often.
    bank, labels, queries, _ = problem(100_000, 700, 16, 7)
    chunk = knn._CHUNK_ENTRIES // len(bank)
    assert 1 < chunk < len(queries) / 3
    tracemalloc.start()
    try:
        votes = knn_probabilities(bank, labels, queries, num_classes=7, k=200)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 230 * 2**20
    some = [0, chunk - 1, chunk, len(queries) - 1]
    expected = KNeighborsClassifier(200, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07))
    expected = expected.fit(bank.astype(float), labels).predict_proba(queries[some].astype(float))
    np.testing.assert_allclose(votes[some], expected, rtol=1e-3, atol=1e-4)
