"""Scores as tables for a terminal of 80 columns.

Knows evaluations and rich, computes nothing. Figures are in percent, as papers print them; what is missing stands below its table
with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from NatureLM.eval.score import Evaluation
from NatureLM.scoring.corrected import ComponentScore
from NatureLM.scoring.statistics import Interval

_OFFICIAL = {
    "classification": ("Accuracy", "Precision", "Recall", "F1 Score", "Top-1 Accuracy"),
    "detection": ("F1", "Precision", "Recall", "mAP"),
    "captioning": ("spider_score",),
}


def percent(value: float | None) -> str:
    """Write a share in percent with one decimal."""
    return "" if value is None else f"{100 * value:.1f}"


def span(interval: Interval | None) -> str:
    """Write the bounds of an interval in percent."""
    return f"{percent(interval.low)} - {percent(interval.high)}" if interval else ""


def official_tables(evaluation: Evaluation) -> Iterator[RenderableType]:
    """Lay out the official metrics, one table a task, and say what is missing and why."""
    score = evaluation.official
    if score is None:
        return
    counts = scored_rows(evaluation)
    for task, columns in _OFFICIAL.items():
        table = _start(
            f"Official protocol, {task} (%)",
            ("rows", *(column.removesuffix(" Accuracy") for column in columns)),
        )
        for name, component in evaluation.components.items():
            found = score.metrics.get(name)
            if found and component.task == task:
                table.add_row(
                    name, str(counts[name]), *(percent(found[column]) for column in columns)
                )
        if table.rows:
            yield table
    yield from (Text(f"{name}: {reason}\n") for name, reason in score.errors.items())


def scored_rows(evaluation: Evaluation) -> dict[str, int]:
    """Count the rows that have a prediction, by component."""
    counts = dict.fromkeys(evaluation.components, 0)
    for row in evaluation.file.rows:
        if row.dataset in counts and row.prediction is not None:
            counts[row.dataset] += 1
    return counts


def corrected_tables(evaluation: Evaluation) -> Iterator[RenderableType]:
    """Lay out the corrected metrics, one table a task, and say what is missing and why."""
    scores = evaluation.corrected.components if evaluation.corrected else {}
    builders = {"classification": _classification, "detection": _detection, "captioning": _captions}
    for task, build in builders.items():
        mine = {name: score for name, score in scores.items() if score.component.task == task}
        if mine:
            yield build(mine, evaluation.intervals)
    reasons: dict[str, list[str]] = {}
    for name, score in scores.items():
        for metric, reason in score.not_computed.items():
            reasons.setdefault(f"{metric} {reason}", []).append(name)
    yield from (Text(f"{reason} ({_few(names)})\n") for reason, names in reasons.items())


def _few(names: list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


Scores = Mapping[str, ComponentScore]
Intervals = Mapping[str, Mapping[str, Interval]]


def _start(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )
    table.add_column("component", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _bounded(value: float, interval: Interval | None) -> str:
    bounds = f" [{percent(interval.low)}, {percent(interval.high)}]" if interval else ""
    return percent(value) + bounds


def _classification(scores: Scores, intervals: Intervals) -> Table:
    columns = ("rows", "strict", "normalised [95 %]", "nearest", "inv.", "bal.", "F1")
    table = _start(
        "Corrected scorer, classification: accuracy, invalid answers, balanced accuracy, macro F1 (%)",
        columns,
    )
    keys = ("accuracy_nearest", "invalid_rate", "balanced_accuracy", "f1_macro")
    for name, score in scores.items():
        found = score.metrics
        bounds = intervals.get(name, {}).get(score.headline)
        table.add_row(
            name,
            str(len(score.outcomes)),
            percent(found["accuracy_strict"]),
            _bounded(found[score.headline], bounds),
            *(percent(found[key]) for key in keys),
        )
    return table


def _detection(scores: Scores, intervals: Intervals) -> Table:
    columns = ("rows", "macro [95 %]", "micro", "weighted", "samples", "mAP", "invalid")
    table = _start("Corrected scorer, detection: F1 (%)", columns)
    keys = ("f1_micro", "f1_weighted", "f1_samples", "mAP", "invalid_rate")
    for name, score in scores.items():
        found = score.metrics
        bounds = intervals.get(name, {}).get(score.headline)
        table.add_row(
            name,
            str(len(score.outcomes)),
            _bounded(found[score.headline], bounds),
            *(percent(found.get(key)) or "-" for key in keys),
        )
    return table


def _captions(scores: Scores, intervals: Intervals) -> Table:
    columns = ("rows", "CIDEr-D (0 to 10) [95 %]", "SPICE", "SPIDEr")
    table = _start("Corrected scorer, captioning", columns)
    for name, score in scores.items():
        bounds = intervals.get(name, {}).get("cider")
        interval = f" [{bounds.low:.3f}, {bounds.high:.3f}]" if bounds else ""
        found = score.metrics
        joined = (f"{found[key]:.3f}" if key in found else "-" for key in ("spice", "spider"))
        table.add_row(name, str(len(score.outcomes)), f"{found['cider']:.3f}{interval}", *joined)
    return table
