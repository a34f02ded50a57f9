"""The tables of a report, as rows of cells that the page and the Markdown text set each in its own way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from bitkeras.evaluation.leader import METRIC, ranked_arms, score_of, told_names
from bitkeras.evaluation.retention import MEASURES

# Metric -> heading of its column.
METRICS = {
    METRIC: "balanced accuracy",
    "macro_f1": "macro F1",
    "accuracy": "accuracy",
    "roc_auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "knn_balanced_accuracy": "kNN",
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
      text: what is read.
      key: what it is sorted by; None: by its text, and behind all numbers where it is empty.
      mark: a name of what it says, such as a verdict, that the page gives a form to.
      code: it is written by a machine or for one.
    """

    text: str
    key: float | None = None
    mark: str | None = None
    code: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under headings.

    Attributes:
      caption: what stands in it.
      headings: of the columns; the first names the rows.
      rows: cells.
      sorted_by: the column that it is in the order of, and "ascending" or "descending"; None: in an order of its own.
    """

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    sorted_by: tuple[int, str] | None = None


def score_table(content: Mapping) -> Table | None:
    """Every arm, best first."""
    arms = ranked_arms(content)
    metrics = [m for m in METRICS if m == METRIC or any(score_of(arm, m)["value"] is not None for arm in arms)]
    has_runs, has_minutes = any(arm.get("num_runs", 1) > 1 for arm in arms), any(arm.get("minutes") for arm in arms)
    headings = ["encoder", METRICS[METRIC], "95 % interval", *(METRICS[metric] for metric in metrics[1:])]
    headings += ["seeds"] * has_runs + ["minutes"] * has_minutes
    rows = []
    for arm in arms:
        name = arm["name"] + (" (baseline)" if arm.get("baseline") else "")
        row = [Cell(name, mark="baseline" if arm.get("baseline") else None), spread_cell(score_of(arm))]
        row += [interval_cell(score_of(arm)), *(spread_cell(score_of(arm, metric)) for metric in metrics[1:])]
        row += [Cell(str(arm.get("num_runs", 1)), arm.get("num_runs", 1))] * has_runs
        row += [number_cell(arm.get("minutes"), ".1f")] * has_minutes
        rows.append(tuple(row))
    caption = "Scores on the test part, as fractions: mean ± standard deviation over seeds or trials."
    return Table(caption, tuple(headings), tuple(rows), sorted_by=(1, "descending")) if rows else None


def difference_table(content: Mapping) -> Table | None:
    """Paired differences with their verdicts."""
    names, found = told_names(content), content.get("differences") or []
    rows = tuple(
        (
            Cell(f"{names.get(row['a'], row['a'])} − {names.get(row['b'], row['b'])}"),
            Cell(METRICS.get(row["metric"], row["metric"])),
            *difference_cells(row),
        )
        for row in found
    )
    headings = ("encoders", "score", "difference", "95 % interval", "verdict")
    caption = "Paired differences: both encoders on the same resampled lesions. Resolved: the interval leaves out 0."
    return Table(caption, headings, rows) if rows else None


def split_table(content: Mapping) -> Table | None:
    """The same encoders in two kinds of parts, and how much of the other score is leakage."""
    found, names = content.get("other_split"), told_names(content)
    if not found:
        return None
    rows = tuple(
        (
            Cell(names[row["arm"]]),
            Cell(METRICS.get(row["metric"], row["metric"])),
            *(spread_cell(row[parts]) for parts in ("own", "other")),
            *difference_cells(row),
            *_seen_cells(row.get("of_seen_lesions")),
        )
        for row in found["rows"]
    )
    headings = ("encoder", "score", "pre-trained so", "the other parts", "difference", "95 % interval", "verdict")
    headings += ("without seen lesions", "leakage", "95 % interval")
    return Table(
        f"The same encoders, with classifiers trained and tested in the parts of pre-training ({found['own']}) and in "
        f"others ({found['other']}). The lesions of the two test parts are resampled independently, and part of the "
        "difference is the luck of which images they hold. Leakage is the score in the other parts less what it is "
        "without the test images of lesions that the classifier was shown.",
        headings,
        rows,
    )


def _seen_cells(row: Mapping | None) -> tuple[Cell, ...]:
    if row is None:
        return (Cell(""),) * 3
    return spread_cell(row["unseen"]), *difference_cells(row)[:2]


def epochs_table(content: Mapping) -> Table | None:
    """Epochs and minutes until the target."""
    found, names = content.get("epochs_to_target"), told_names(content)
    if not found:
        return None
    rows = tuple(
        (
            Cell(names[row["arm"]]),
            _per_seed(row["epochs"], ".0f"),
            _per_seed(row.get("minutes") or [], ".1f"),
            number_cell(row.get("speedup"), ".2f"),
            interval_cell({"interval": row.get("speedup_interval")}, form=".2f"),
        )
        for row in found["rows"]
    )
    return Table(
        f"Until a kNN balanced accuracy of {found['target']:.3f}, which {names[found['of']]} ends with"
        f"{_window(found)}; one number a seed. The interval is over seeds.",
        ("encoder", "epochs", "minutes of training", "times faster", "95 % interval"),
        rows,
    )


def _window(found: Mapping) -> str:
    window = found.get("window", 1)
    return f" in the mean of {window} epochs, and is reached in the mean of {window} about one" if window > 1 else ""


def collapse_table(content: Mapping) -> Table | None:
    """How each training ended, as the collapse sentinel saw it."""
    rows = tuple(
        (
            Cell(arm["name"]),
            Cell(arm["verdict"]["state"], mark="good" if arm["verdict"]["state"] == "healthy" else "bad"),
            Cell(str(arm["verdict"].get("evidence") or "")),
            Cell(str(arm["verdict"].get("remedy") or "–")),
        )
        for arm in content["arms"]
        if arm.get("verdict")
    )
    caption = "The collapse sentinel's verdict on the last epoch; of several seeds the worst."
    return Table(caption, ("encoder", "verdict", "evidence", "what to do"), rows) if rows else None


def retention_table(content: Mapping) -> Table | None:
    """What a swap of the norm left, in the mean over stages, and kNN before and after."""
    rows = []
    for arm in content["arms"]:
        report = arm.get("retention")
        if report:
            overall, knn = report["stages"].get("overall") or {}, report.get("knn_balanced_accuracy") or {}
            swap = " ".join(f"--{flag}={value}" for flag, value in (report.get("swap") or {}).items())
            row = [Cell(arm["name"]), *(number_cell(overall.get(measure), ".3f") for measure in MEASURES)]
            row += [number_cell(knn.get(when), ".3f") for when in ("before", "after")]
            rows.append((*row, Cell(swap, code=True)))
    headings = ("encoder", "cosine", "centred cosine", "CKA", "kNN before", "kNN after", "swap")
    caption = (
        "Likeness of the features before and after the swap, without any training: mean over stages, 1 is unchanged."
    )
    return Table(caption, headings, tuple(rows)) if rows else None


def flag_tables(content: Mapping) -> list[Table]:
    """Every flag: those in which the arms differ side by side, then those that they share."""
    arms = [arm for arm in content["arms"] if arm.get("flags")]
    names = sorted({flag for arm in arms for flag in arm["flags"]})
    shared = [flag for flag in names if len({repr(arm["flags"].get(flag)) for arm in arms}) == 1]
    differing = [flag for flag in names if flag not in shared]
    tables = []
    if differing:
        rows = tuple(
            (Cell(_flag(flag), code=True), *(Cell(_told(arm["flags"].get(flag)), code=True) for arm in arms))
            for flag in differing
        )
        tables.append(Table("Flags in which the encoders differ", ("flag", *(arm["name"] for arm in arms)), rows))
    if shared:
        rows = tuple(
            (Cell(_flag(flag), code=True), Cell(_told(arms[0]["flags"].get(flag)), code=True)) for flag in shared
        )
        caption = "Flags that all encoders share" if len(arms) > 1 else f"Flags of {arms[0]['name']}"
        tables.append(Table(caption, ("flag", "value"), rows))
    return tables


def spread_cell(score: Mapping) -> Cell:
    """'0.412 ± 0.008', or what of it is known."""
    if score.get("value") is None:
        return Cell("")
    std = score.get("std")
    return Cell(f"{score['value']:.3f}" + ("" if std is None else f" ± {std:.3f}"), score["value"])


def interval_cell(score: Mapping, *, signed: bool = False, form: str = ".3f") -> Cell:
    """'0.390 to 0.430', sorted by its middle."""
    if not score.get("interval"):
        return Cell("")
    low, high = score["interval"]
    form = f"+{form}" if signed else form
    return Cell(_with_minus(f"{low:{form}} to {high:{form}}"), (low + high) / 2)


def difference_cells(row: Mapping) -> tuple[Cell, Cell, Cell]:
    """A difference, its interval, and whether it is resolved, in words and in colour."""
    mark = "resolved" if row["resolved"] else "not-resolved"
    verdict = Cell(row["verdict"], float(row["resolved"]), mark=mark)
    return number_cell(row["difference"], "+.3f"), interval_cell(row, signed=True), verdict


def number_cell(value: float | None, form: str) -> Cell:
    """A number in the given form; empty where there is none."""
    return Cell("") if value is None else Cell(_with_minus(f"{value:{form}}"), float(value))


def _per_seed(values: Sequence[float | None], form: str) -> Cell:
    reached = [value for value in values if value is not None]
    told = ", ".join("never" if value is None else f"{value:{form}}" for value in values)
    # What was never reached takes longest.
    return Cell(told, sum(reached) / len(reached) if reached and len(reached) == len(values) else None)


def _told(value) -> str:
    return "–" if value is None else str(value)


def _with_minus(number: str) -> str:
    """A number with a minus as wide as its plus, where it has one."""
    return number.replace("-", "\u2212")


def _flag(name: str) -> str:
    # Those of a second command come as "probe --epochs".
    return name if " " in name else f"--{name}"
