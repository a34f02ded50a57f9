"""The same encoders in other parts of the images: another split's score, and how much of it is leakage."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from bitkeras.evaluation.answers import Answers
from bitkeras.evaluation.comparison import OVERALL_METRICS, difference_of, sample_scores
from bitkeras.evaluation.resampling import LEVEL, NUM_SAMPLES, Resamples


def unpaired_differences(
    a: Answers,
    b: Answers,
    *,
    metrics: Sequence[str] = OVERALL_METRICS,
    num_samples: int = NUM_SAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> list[dict]:
    """Score on one test part less that on another, of the same encoder with a classifier for each.

    The lesions of the two parts are drawn anew independently. Of several runs the same ones are drawn for both parts,
    since the runs are the same: what differs between training seeds does not blur what differs between parts.

    Args:
      a, b: answers of the same runs, in the same order, on the two parts.
      metrics: of `OVERALL_METRICS`.
      num_samples, level, seed: of the bootstrap.

    Returns:
      Rows with metric, a and b (scores), and difference, interval, resolved and verdict as of `paired_differences`.
    """
    sampled = []
    for place, held in enumerate((a, b)):
        resamples = Resamples.of(len(held.labels), held.groups, num_samples=num_samples, seed=[seed, place])
        sampled.append(sample_scores(held, resamples, metrics=metrics))
    rows = []
    for metric in metrics:
        scores = [by_metric[metric] for by_metric in sampled]
        told = dict(zip("ab", (score.score(level=level, seed=seed) for score in scores)))
        samples = [score.resampled(seed) for score in scores]
        rows.append({"metric": metric, **told, **difference_of(scores, samples, level=level)})
    return rows


def leakage_differences(
    answers: Answers,
    is_seen: np.ndarray,
    *,
    metrics: Sequence[str] = OVERALL_METRICS,
    num_samples: int = NUM_SAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> list[dict]:
    """Score on all test images less that on those whose lesion the classifier has not seen.

    Encoder, classifier and images are the same, so that nothing but the seen lesions is in the difference; between the
    test parts of two splits there also is the luck of which images they got. The same lesions are drawn for both.

    Args:
      answers: on all test images.
      is_seen: bool [N], whether an image's lesion was shown to the classifier on another photo.
      metrics: of `OVERALL_METRICS`.
      num_samples, level, seed: of the bootstrap.

    Returns:
      Rows with metric, unseen (the score without the seen ones), and difference, interval, resolved and verdict as of
      `paired_differences`; difference and interval are None where every image is a seen one.
    """
    resamples = Resamples.of(len(answers.labels), answers.groups, num_samples=num_samples, seed=seed)
    kept = ~is_seen
    groups = None if answers.groups is None else answers.groups[kept]
    unseen = dataclasses.replace(
        answers,
        image_ids=answers.image_ids[kept],
        labels=answers.labels[kept],
        probabilities=answers.probabilities[:, kept],
        groups=groups,
    )
    everything = sample_scores(answers, resamples, metrics=metrics)
    rest = sample_scores(unseen, Resamples(resamples.draws, resamples.group[kept]), metrics=metrics)
    rows = []
    for metric in metrics:
        scores = everything[metric], rest[metric]
        samples = [score.resampled(seed) for score in scores]
        told = rest[metric].score(level=level, seed=seed)
        rows.append({"metric": metric, "unseen": told, **difference_of(scores, samples, level=level)})
    return rows
