"""The clinical card: what a clinician asks of a classifier, from its answers on the test part."""

from __future__ import annotations

import numpy as np

from bitkeras.evaluation.answers import Answers
from bitkeras.evaluation.calibration import calibration_scores, reliability_bins
from bitkeras.evaluation.comparison import AREAS, SampledScore, sample_scores
from bitkeras.evaluation.metrics import OF_TALLY
from bitkeras.evaluation.ranking import FOUND, OPERATING_POINTS, Ranking, curves, rank, rank_scores, threshold_at
from bitkeras.evaluation.resampling import LEVEL, NUM_SAMPLES, Resamples
from bitkeras.evaluation.subgroups import subgroups_of
from bitkeras.evaluation.tallies import CLASS_SCORES, mean_defined, sensitivity, tally

_MELANOMA = ("mel", "melanoma")


def clinical_card(
    answers: Answers,
    *,
    uncalibrated: np.ndarray | None = None,
    temperature: float = 1.0,
    facts: dict[str, np.ndarray] | None = None,
    num_samples: int = NUM_SAMPLES,
    seed: int = 0,
) -> dict:
    """Everything below for one probe, as plain numbers, lists and dicts.

    A score is {"value": mean over trials, "std": over trials, "interval": [low, high] at 95 % by bootstrap over
    lesions, "trials": one each}; None where it is not defined, such as the sensitivity of a class without test images.
    Operating points are read off the ROC curve of the test part (of each resample, for the interval), so a threshold
    chosen elsewhere will do a little worse.

    Args:
      answers: calibrated, of one pre-training run.
      uncalibrated: float [T, N, K], the probabilities before temperature scaling; None: the same.
      temperature: of the exported classifier.
      facts: as `ImageSource.facts`, of the N test images.
      num_samples, seed: of the bootstrap.

    Returns:
      class_names, num_images, num_groups, num_trials, level, num_samples; overall and by class scores; confusion (rows
      are true classes, mean counts over trials); focus, the class of melanoma, if there is one; operating_points;
      calibration before and after; curves of the best trial; subgroups.
    """
    resamples = Resamples.of(len(answers.labels), answers.groups, num_samples=num_samples, seed=seed)
    uncalibrated = answers.probabilities if uncalibrated is None else uncalibrated
    rankings = [_rankings(answers.labels, probabilities) for probabilities in answers.probabilities]
    ranked = [[rank_both(ranking, resamples) for ranking in of_trial] for of_trial in rankings]
    best = rankings[answers.best_trial]
    return {
        "class_names": list(answers.class_names),
        "num_images": len(answers.labels),
        "num_groups": None if answers.groups is None else resamples.num_groups,
        **{"num_trials": len(answers.probabilities), "level": LEVEL, "num_samples": num_samples},
        "overall": _overall(answers, ranked, resamples),
        "classes": _class_rows(answers, ranked, resamples),
        "confusion": _confusion(answers),
        "focus": focus_of(answers.class_names),
        "operating_points": _operating_points(answers, ranked, best),
        "calibration": {
            "temperature": temperature,
            "before": _calibration(uncalibrated, answers, resamples),
            "after": _calibration(answers.probabilities, answers, resamples),
        },
        "curves": _curves(answers.class_names, best),
        "subgroups": _subgroup_tables(answers, facts or {}, num_samples=num_samples, seed=seed),
    }


def focus_of(class_names) -> str | None:
    """The name of the melanoma class, if there is one."""
    return next((name for name in class_names if name.lower() in _MELANOMA), None)


def rank_both(ranking: Ranking, resamples: Resamples) -> tuple[dict, dict]:
    """`rank_scores` of the test set and of its resamples."""
    return rank_scores(ranking), rank_scores(ranking, resamples)


def _rankings(labels: np.ndarray, probabilities: np.ndarray) -> list[Ranking]:
    return [rank(labels == index, probabilities[:, index]) for index in range(probabilities.shape[1])]


def _score(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict:
    """Of one (value [1], samples [S]) a trial."""
    values, samples = np.concatenate([value for value, _ in pairs]), np.stack([sample for _, sample in pairs])
    return SampledScore(values, samples, np.zeros(len(values), int)).score()


def _overall(answers: Answers, ranked: list, resamples: Resamples) -> dict[str, dict]:
    """`OVERALL_METRICS`; the areas are means of those by class, which nearly all of the work goes into."""
    counted = sample_scores(answers, resamples, metrics=tuple(OF_TALLY))
    scores = {metric: sampled.score() for metric, sampled in counted.items()}
    for metric in AREAS:
        by_class = [zip(*((value[metric], samples[metric]) for value, samples in trial)) for trial in ranked]
        means = [tuple(mean_defined(np.stack(classes, axis=-1)) for classes in pair) for pair in by_class]
        scores[metric] = _score(means)
    return scores


def _class_rows(answers: Answers, ranked: list, resamples: Resamples) -> list[dict]:
    num_classes, labels = len(answers.class_names), answers.labels
    predictions = answers.probabilities.argmax(axis=2)
    drawings = (Resamples.once(len(labels)), resamples)
    tallies = [[tally(labels, row, num_classes, resamples=drawn) for drawn in drawings] for row in predictions]
    rows = []
    for index, name in enumerate(answers.class_names):
        row = {"name": name, "support": int((labels == index).sum())}
        for metric, score in CLASS_SCORES.items():
            row[metric] = _score([tuple(score(counts)[:, index] for counts in pair) for pair in tallies])
        for metric in AREAS:
            row[metric] = _ranked_score(ranked, index, metric)
        rows.append(row)
    return rows


def _ranked_score(ranked: list, index: int, key) -> dict:
    return _score([(of_trial[index][0][key], of_trial[index][1][key]) for of_trial in ranked])


def _operating_points(answers: Answers, ranked: list, best: list[Ranking]) -> list[dict]:
    return [
        {
            **{"class": name, "fixed": fixed, "at": at, "found": found},
            "score": _ranked_score(ranked, index, (fixed, at)),
            "threshold": threshold_at(best[index], fixed=fixed, at=at),
        }
        for index, name in enumerate(answers.class_names)
        for fixed, found in FOUND.items()
        for at in OPERATING_POINTS
    ]


def _confusion(answers: Answers) -> list[list[float]]:
    num_classes = len(answers.class_names)
    counts = np.zeros([num_classes, num_classes])
    for predictions in answers.probabilities.argmax(axis=2):
        np.add.at(counts, (answers.labels, predictions), 1)
    return (counts / len(answers.probabilities)).tolist()


def _calibration(probabilities: np.ndarray, answers: Answers, resamples: Resamples) -> dict:
    """ece, nll, brier as scores, and the bins of the best trial."""
    of_trials = [
        (calibration_scores(trial, answers.labels), calibration_scores(trial, answers.labels, resamples))
        for trial in probabilities
    ]
    scores = {name: _score([(one[name], many[name]) for one, many in of_trials]) for name in ("ece", "nll", "brier")}
    return {**scores, "bins": reliability_bins(probabilities[answers.best_trial], answers.labels)}


def _curves(class_names, rankings: list[Ranking]) -> dict:
    drawn = {name: curves(ranking) for name, ranking in zip(class_names, rankings)}
    return {
        kind: {name: pair[place] for name, pair in drawn.items() if pair[place]}
        for place, kind in enumerate(("roc", "pr"))
    }


def _subgroup_tables(answers: Answers, facts: dict[str, np.ndarray], *, num_samples: int, seed: int) -> list[dict]:
    """A table for each fact: scores of the images of each of its values."""
    tables = []
    for fact, values in subgroups_of(facts).items():
        rows = [_subgroup_row(answers, values == value, value, num_samples, seed) for value in np.unique(values)]
        tables.append({"fact": fact, "rows": rows})
    return tables


def _subgroup_row(answers: Answers, chosen: np.ndarray, value: str, num_samples: int, seed: int) -> dict:
    labels, names = answers.labels[chosen], answers.class_names
    groups = None if answers.groups is None else answers.groups[chosen]
    drawings = (
        Resamples.once(len(labels)),
        Resamples.of(len(labels), groups, num_samples=num_samples, seed=seed),
    )
    tallies = [
        [tally(labels, trial[chosen].argmax(axis=1), len(names), resamples=drawn) for drawn in drawings]
        for trial in answers.probabilities
    ]
    scores = {m: _score([tuple(score(counts) for counts in pair) for pair in tallies]) for m, score in OF_TALLY.items()}
    focus = focus_of(names)
    if focus is not None:
        index = names.index(focus)
        found = [tuple(sensitivity(counts)[:, index] for counts in pair) for pair in tallies]
    return {
        **{"value": str(value), "num_images": len(labels)},
        "num_groups": None if groups is None else len(np.unique(groups)),
        "classes": [name for index, name in enumerate(names) if (labels == index).any()],
        **scores,
        "focus_sensitivity": None if focus is None else _score(found),
    }
