"""Scores as tables for a terminal.

Knows evaluations and rich, computes nothing. Figures are in percent, as papers print them; what is missing shows its reason.
"""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from NatureLM.eval.score import Evaluation
from NatureLM.scoring.corrected import ComponentScore
from NatureLM.scoring.statistics import Interval

_OFFICIAL = (
    "Accuracy",
    "F1 Score",
    "Top-1 Accuracy",
    "F1",
    "Precision",
    "Recall",
    "mAP",
    "spider_score",
)


def percent(value: float | None) -> str:
    """Write a share in percent with one decimal."""
    return "" if value is None else f"{100 * value:.1f}"


def official_table(evaluation: Evaluation) -> Table:
    """Lay out the official metrics, one line a component."""
    table = Table(title="BEANS-Zero, official protocol (%)", title_justify="left")
    table.add_column("component")
    table.add_column("rows", justify="right")
    score = evaluation.official
    metrics = score.metrics if score else {}
    columns = [name for name in _OFFICIAL if any(name in found for found in metrics.values())]
    for name in columns:
        table.add_column(name, justify="right")
    table.add_column("not computed")
    errors: Mapping[str, str] = score.errors if score else {}
    counts = _rows(evaluation)
    for component in evaluation.components:
        found = metrics.get(component, {})
        if found or component in errors:
            values = [percent(found.get(name)) for name in columns]
            table.add_row(component, str(counts[component]), *values, errors.get(component, ""))
    return table


def _rows(evaluation: Evaluation) -> dict[str, int]:
    counts = dict.fromkeys(evaluation.components, 0)
    for row in evaluation.file.rows:
        if row.dataset in counts:
            counts[row.dataset] += 1
    return counts


def corrected_tables(evaluation: Evaluation) -> list[Table]:
    """Lay out the corrected metrics, one table a task."""
    scores = evaluation.corrected.components if evaluation.corrected else {}
    tables = []
    for task, build in (
        ("classification", _classification),
        ("detection", _detection),
        ("captioning", _captions),
    ):
        mine = {name: score for name, score in scores.items() if score.component.task == task}
        if mine:
            tables.append(build(mine, evaluation.intervals))
    return tables


Scores = Mapping[str, ComponentScore]
Intervals = Mapping[str, Mapping[str, Interval]]


def span(interval: Interval | None) -> str:
    """Write the bounds of an interval in percent."""
    return f"{percent(interval.low)} - {percent(interval.high)}" if interval else ""


def _start(title: str, columns: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("component")
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _classification(scores: Scores, intervals: Intervals) -> Table:
    table = _start(
        "Corrected, classification (%)",
        (
            "rows",
            "strict",
            "normalised",
            "95 % interval",
            "nearest",
            "invalid",
            "balanced",
            "macro F1",
            "weighted F1",
        ),
    )
    for name, score in scores.items():
        found = score.metrics
        table.add_row(
            name,
            str(len(score.outcomes)),
            percent(found["accuracy_strict"]),
            percent(found["accuracy_normalised"]),
            span(intervals.get(name, {}).get("accuracy_normalised")),
            percent(found["accuracy_nearest"]),
            percent(found["invalid_rate"]),
            percent(found["balanced_accuracy"]),
            percent(found["f1_macro"]),
            percent(found["f1_weighted"]),
        )
    return table


def _detection(scores: Scores, intervals: Intervals) -> Table:
    table = _start(
        "Corrected, detection (%)",
        (
            "rows",
            "macro F1",
            "95 % interval",
            "micro F1",
            "weighted F1",
            "samples F1",
            "mAP",
            "invalid",
            "presence",
            "absence",
        ),
    )
    for name, score in scores.items():
        found = score.metrics
        table.add_row(
            name,
            str(len(score.outcomes)),
            percent(found["f1_macro"]),
            span(intervals.get(name, {}).get("f1_macro")),
            *(percent(found[key]) for key in ("f1_micro", "f1_weighted", "f1_samples")),
            percent(found["mAP"]) if "mAP" in found else "no scores",
            *(percent(found[key]) for key in ("invalid_rate", "presence_recall", "absence_recall")),
        )
    return table


def _captions(scores: Scores, intervals: Intervals) -> Table:
    columns = ("rows", "CIDEr-D x10", "95 % interval", "SPICE", "SPIDEr")
    table = _start("Corrected, captioning", columns)
    for name, score in scores.items():
        bounds = intervals.get(name, {}).get("cider")
        table.add_row(
            name,
            str(len(score.outcomes)),
            f"{score.metrics['cider']:.3f}",
            f"{bounds.low:.3f} - {bounds.high:.3f}" if bounds else "",
            *(
                f"{score.metrics[key]:.3f}" if key in score.metrics else score.not_computed[key]
                for key in ("spice", "spider")
            ),
        )
    return table
