"""Scores of several encoders on the same test images, and whether their differences are more than luck."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from bitkeras.evaluation.answers import Answers, aligned_with
from bitkeras.evaluation.metrics import OF_TALLY
from bitkeras.evaluation.ranking import average_precision, found_counts, rank, roc_auc
from bitkeras.evaluation.resampling import LEVEL, NUM_SAMPLES, Resamples, percentile_interval
from bitkeras.evaluation.tallies import mean_defined, tally

RESOLVED, NOT_RESOLVED = "resolved", "not resolved on this test set"
AREAS = {"roc_auc": roc_auc, "pr_auc": average_precision}
# Areas are macro means over the classes that have test images, each class against the rest.
OVERALL_METRICS = (*OF_TALLY, *AREAS)


@dataclasses.dataclass(frozen=True)
class SampledScore:
    """One score of T classifiers, and of each of S resamples.

    Attributes:
      values: [T]; NaN where it is not defined.
      samples: [T, S].
      runs: int [T], the pre-training run of each classifier.
    """

    values: np.ndarray
    samples: np.ndarray
    runs: np.ndarray

    def by_run(self) -> np.ndarray:
        """Mean over the classifiers of each run, [R]."""
        return mean_defined(np.stack([_padded(self.values, self.runs == run) for run in np.unique(self.runs)]))

    def resampled(self, seed: int) -> np.ndarray:
        """The mean over runs in each resample, [S]; of several runs, these are drawn anew too."""
        runs = np.unique(self.runs)
        means = np.stack([mean_defined(self.samples[self.runs == run].T) for run in runs], axis=1)
        if len(runs) == 1:
            return means[:, 0]
        draws = np.random.default_rng([seed, 1]).multinomial(len(runs), np.full(len(runs), 1 / len(runs)), len(means))
        # A run without a score in a resample has none in the mean, and leaves it undefined.
        return (np.where(draws > 0, means, 0) * draws).sum(1) / len(runs)

    def score(self, *, level: float = LEVEL, seed: int = 0) -> dict:
        """value, std, interval and trials, as the card and the report have them.

        Of one run, `std` and `trials` are over its classifiers; of several, over the runs' means.
        """
        trials = self.by_run() if len(np.unique(self.runs)) > 1 else self.values
        defined = trials[~np.isnan(trials)]
        interval = percentile_interval(self.resampled(seed), level=level) if len(defined) else None
        return {
            "value": float(defined.mean()) if len(defined) else None,
            # One trial has no spread; 0 would claim that it was measured.
            "std": float(defined.std(ddof=1)) if len(defined) > 1 else None,
            "interval": None if interval is None else list(interval),
            "trials": [None if np.isnan(value) else float(value) for value in trials],
        }


def sample_scores(
    answers: Answers, resamples: Resamples | None = None, *, metrics: Sequence[str] = OVERALL_METRICS
) -> dict[str, SampledScore]:
    """Metrics of `OVERALL_METRICS` for each classifier and resample (of lesions, where they are known)."""
    once = Resamples.once(len(answers.labels))
    resamples = Resamples.of(len(answers.labels), answers.groups) if resamples is None else resamples
    found: dict[str, list] = {metric: [] for metric in metrics}
    for probabilities in answers.probabilities:
        pairs = [_trial_scores(answers.labels, probabilities, drawn, metrics) for drawn in (once, resamples)]
        for metric in metrics:
            found[metric].append([pair[metric] for pair in pairs])
    runs = answers.run_of_trial
    return {
        metric: SampledScore(np.concatenate([v for v, _ in rows]), np.stack([s for _, s in rows]), runs)
        for metric, rows in found.items()
    }


def _trial_scores(labels: np.ndarray, probabilities: np.ndarray, resamples: Resamples, metrics) -> dict:
    """Metric -> [S] for one classifier, [N, K]."""
    num_classes = probabilities.shape[1]
    counts = tally(labels, probabilities.argmax(axis=1), num_classes, resamples=resamples)
    scores = {metric: score(counts) for metric, score in OF_TALLY.items()}
    if not set(metrics) & set(AREAS):
        # They are nearly all of the work.
        return scores
    areas = [_areas(labels == index, probabilities[:, index], resamples) for index in range(num_classes)]
    by_class = {metric: np.stack([area[metric] for area in areas], axis=-1) for metric in AREAS}
    return {**scores, **{metric: mean_defined(values) for metric, values in by_class.items()}}


def _areas(is_positive: np.ndarray, scores: np.ndarray, resamples: Resamples) -> dict[str, np.ndarray]:
    ranking = rank(is_positive, scores)
    blocks = [found_counts(ranking, weights) for weights in resamples.blocks(ranking.order)]
    return {metric: np.concatenate([area(*counts) for counts in blocks]) for metric, area in AREAS.items()}


def overall_scores(answers: Mapping[str, Answers]) -> dict[str, dict[str, dict]]:
    """Name -> metric -> score, for encoders on the same test images."""
    return {name: {m: s.score() for m, s in sample_scores(held).items()} for name, held in answers.items()}


def paired_differences(
    answers: Mapping[str, Answers],
    pairs: Sequence[tuple[str, str]],
    *,
    metrics: Sequence[str] = OVERALL_METRICS,
    num_samples: int = NUM_SAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> list[dict]:
    """Score of one encoder less that of another, on the same resampled images, for each pair and metric.

    Paired, since an image that is hard for one encoder is hard for the other: the interval is much narrower than two
    separate ones. Of an encoder with several runs the runs are drawn anew too, so that the interval holds for other
    training seeds as far as a few of them can tell.

    Args:
      answers: name -> answers on the same test images (`pooled` for several runs).
      pairs: (a, b), names.
      metrics: of `OVERALL_METRICS`.
      num_samples, level, seed: of the bootstrap.

    Returns:
      Rows with a, b, metric, difference (a less b), interval [low, high], resolved (the interval leaves out 0) and
      verdict, that in words. difference and interval are None where a score is not defined.

    Raises:
      UserError: two encoders were tested on different images.
    """
    names = sorted({name for pair in pairs for name in pair})
    if not names:
        return []
    # Whoever knows the lesions: drawn as single images they would make the interval too narrow.
    knows = next((name for name in names if answers[name].groups is not None), names[0])
    first = answers[knows]
    aligned = {name: aligned_with(first, answers[name], names=(knows, name)) for name in names}
    resamples = Resamples.of(len(first.labels), first.groups, num_samples=num_samples, seed=seed)
    sampled = {name: sample_scores(held, resamples, metrics=metrics) for name, held in aligned.items()}
    places = {name: index for index, name in enumerate(names)}
    return [_difference(sampled, places, pair, metric, level=level, seed=seed) for pair in pairs for metric in metrics]


def _difference(sampled, places, pair, metric, *, level, seed) -> dict:
    scores = [sampled[name][metric] for name in pair]
    # Draws of runs that belong to the name: a with b is then the mirror of b with a.
    samples = [score.resampled(seed + places[name]) for name, score in zip(pair, scores)]
    return {**{"a": pair[0], "b": pair[1], "metric": metric}, **difference_of(scores, samples, level=level)}


def difference_of(scores: Sequence[SampledScore], samples: Sequence[np.ndarray], *, level: float) -> dict:
    """Difference, interval, resolved and verdict of two scores and their resamples, [S] each."""
    difference = float(mean_defined(scores[0].by_run()) - mean_defined(scores[1].by_run()))
    interval = percentile_interval(samples[0] - samples[1], level=level)
    resolved = interval is not None and not interval[0] <= 0 <= interval[1]
    return {
        "difference": None if np.isnan(difference) else difference,
        "interval": None if interval is None else list(interval),
        "resolved": resolved,
        "verdict": RESOLVED if resolved else NOT_RESOLVED,
    }


def _padded(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return np.where(chosen, values, np.nan)
