"""The tables of a clinical card."""

from __future__ import annotations

from collections.abc import Mapping

from bitkeras.evaluation.report_tables import METRICS, Cell, Table, interval_cell, number_cell, spread_cell

_BY_CLASS = {
    **{"sensitivity": "sensitivity", "specificity": "specificity", "precision": "precision", "f1": "F1"},
    **{"roc_auc": "ROC AUC", "pr_auc": "PR AUC"},
}
_CALIBRATION = {
    "ece": "expected calibration error",
    "nll": "negative log likelihood (nats)",
    "brier": "Brier score",
}


def card_tables(card: Mapping) -> list[Table]:
    """Scores overall and by class, confusion, operating points, calibration, subgroups."""
    tables = [_overall(card), _classes(card), _confusion(card), _operating_points(card), _calibration(card)]
    return tables + [_subgroup(card, each) for each in card.get("subgroups") or []]


def operating_sentence(card: Mapping) -> str | None:
    """What the card says of melanoma (its focus) at a specificity of 90 % and the reverse."""
    told = []
    for point in card["operating_points"]:
        if (
            point["class"] == card.get("focus")
            and abs(point["at"] - 0.9) < 1e-9
            and point["score"]["value"] is not None
        ):
            interval = interval_cell(point["score"]).text
            within = f" ({interval})" if interval else ""
            told.append(f"at a {point['fixed']} of 90 % a {point['found']} of {point['score']['value']:.3f}{within}")
    return f"{card['focus']}: " + "; ".join(told) + "." if told else None


def _overall(card: Mapping) -> Table:
    rows = tuple(
        (Cell(METRICS.get(metric, metric)), spread_cell(score), interval_cell(score))
        for metric, score in card["overall"].items()
    )
    of = "" if card.get("num_groups") is None else f" of {card['num_groups']:,} lesions"
    trials = f"{card['num_trials']} classifier{'s' if card['num_trials'] > 1 else ''}"
    caption = f"Overall: {card['num_images']:,} test images{of}, {trials}, mean ± standard deviation."
    return Table(caption, ("score", "value", "95 % interval"), rows)


def _classes(card: Mapping) -> Table:
    rows = tuple(
        (Cell(row["name"]), number_cell(row["support"], ",d"), *(_with_interval(row[metric]) for metric in _BY_CLASS))
        for row in card["classes"]
    )
    caption = "By class, each against all others. Support is the number of test images; brackets hold 95 % intervals."
    return Table(caption, ("class", "support", *_BY_CLASS.values()), rows)


def _confusion(card: Mapping) -> Table:
    rows = []
    for name, counts in zip(card["class_names"], card["confusion"]):
        whole = max(sum(counts), 1e-12)
        cells = (Cell(_count(count), count, mark=f"share-{round(10 * count / whole)}") for count in counts)
        rows.append((Cell(name), *cells))
    caption = "Confusion matrix: rows are true classes, columns answers; mean counts over trials."
    return Table(caption, ("true class", *card["class_names"]), tuple(rows))


def _operating_points(card: Mapping) -> Table:
    focus = card.get("focus")
    points = sorted(card["operating_points"], key=lambda point: point["class"] != focus)
    rows = tuple(
        (
            Cell(point["class"]),
            Cell(f"{point['fixed']} {point['at']:.2f}"),
            Cell(point["found"]),
            spread_cell(point["score"]),
            interval_cell(point["score"]),
            number_cell(point.get("threshold"), ".3f"),
        )
        for point in points
    )
    caption = (
        "Operating points, read off the ROC curve of the test part; a threshold chosen elsewhere does a little worse."
    )
    return Table(caption, ("class", "held fixed", "found", "value", "95 % interval", "threshold"), rows)


def _calibration(card: Mapping) -> Table:
    calibration = card["calibration"]
    rows = tuple(
        (Cell(told), *(_with_interval(calibration[when][name]) for when in ("before", "after")))
        for name, told in _CALIBRATION.items()
    )
    caption = (
        f"Calibration before and after temperature scaling (temperature {calibration['temperature']:.3f}, fitted on "
        "the validation part); less is better."
    )
    return Table(caption, ("measure", "before", "after"), rows)


def _subgroup(card: Mapping, group: Mapping) -> Table:
    focus = card.get("focus")
    metrics = {"balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1", "accuracy": "accuracy"}
    metrics |= {"focus_sensitivity": f"sensitivity for {focus}"} if focus else {}
    rows = tuple(
        (
            Cell(str(row["value"])),
            number_cell(row["num_images"], ",d"),
            number_cell(len(row["classes"]), "d"),
            *(_with_interval(row.get(metric) or {}) for metric in metrics),
        )
        for row in group["rows"]
    )
    caption = f"By {group['fact']}. Balanced accuracy and F1 are over the classes that the subgroup holds."
    return Table(caption, (str(group["fact"]), "images", "classes", *metrics.values()), rows)


def _with_interval(score: Mapping) -> Cell:
    if score.get("value") is None:
        return Cell("")
    interval = f" ({score['interval'][0]:.2f}–{score['interval'][1]:.2f})" if score.get("interval") else ""
    return Cell(f"{score['value']:.3f}{interval}", score["value"])


def _count(count: float) -> str:
    # A mean over trials has decimals where these differ.
    return f"{count:.0f}" if count == round(count) else f"{count:.1f}"
