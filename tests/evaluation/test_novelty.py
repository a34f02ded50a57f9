import numpy as np
from reference.evaluation_reference import cosine

from bitkeras.evaluation.novelty import MAX_REFERENCES, NUM_NEIGHBOURS, distances_to, fit_familiar, novelty


def made(count, shift=0.0, seed=0):
    return (np.random.default_rng(seed).normal(0, 1, [count, 6]) + [3, shift, 0, 0, 0, 0]).astype(np.float32)


def test_distances_are_to_the_tenth_nearest():
    references, features = made(30), made(8, seed=1)
    found = distances_to(fit_familiar(references, features).references, features)
    for row, distance in zip(features, found):
        nearest = sorted((cosine(row, other) for other in references), reverse=True)
        assert abs(distance - (1 - nearest[NUM_NEIGHBOURS - 1])) < 1e-5
    few = fit_familiar(references[:4], features)
    expected = [1 - min(cosine(row, other) for other in references[:4]) for row in features]
    np.testing.assert_allclose(distances_to(few.references, features), expected, atol=1e-5)


def test_the_score_is_the_share_of_validation_images_that_are_nearer():
    familiar = fit_familiar(made(200), made(400, seed=1))
    # Images of the same kind spread over [0, 1], strange ones lie beyond nearly all.
    same = novelty(familiar, made(2000, seed=2))
    assert abs(same.mean() - 0.5) < 0.05 and 0.02 < (same > 0.95).mean() < 0.1
    assert novelty(familiar, made(200, shift=-8, seed=3)).min() > 0.9
    # The length of a feature does not count.
    np.testing.assert_allclose(
        novelty(familiar, 100 * made(50, seed=2)), novelty(familiar, made(50, seed=2)), atol=0.01
    )


def test_references_are_bounded_and_seeded():
    features = made(MAX_REFERENCES + 500)
    first, again, other = (fit_familiar(features, made(50, seed=1), seed=seed) for seed in (0, 0, 1))
    assert len(first.references) == MAX_REFERENCES
    np.testing.assert_array_equal(first.references, again.references)
    assert (first.references != other.references).any()
    np.testing.assert_allclose(np.linalg.norm(first.references, axis=1), 1, rtol=1e-5)
    assert (np.diff(first.distances) >= 0).all()
