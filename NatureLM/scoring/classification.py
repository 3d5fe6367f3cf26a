"""Metrics of one label a row: accuracy, precision, recall and F1 in three averages, balanced accuracy, and one line a label.

Knows labels as strings only. An undefined precision or recall counts as 0, as in the official protocol.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LabelCounts:
    """How one label fared.

    Attributes:
        label: The label.
        true_positives: Rows that have it and were given it.
        false_positives: Rows that were given it wrongly.
        false_negatives: Rows that have it and were not given it.
    """

    label: str
    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def support(self) -> int:
        """Rows that have the label."""
        return self.true_positives + self.false_negatives

    @property
    def precision(self) -> float:
        """Share of the rows given the label that have it."""
        return _share(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """Share of the rows that have the label that were given it."""
        return _share(self.true_positives, self.support)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        wrong = self.false_positives + self.false_negatives
        return _share(2 * self.true_positives, 2 * self.true_positives + wrong)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def count_labels(
    references: Sequence[str], predictions: Sequence[str | None], labels: Iterable[str] = ()
) -> list[LabelCounts]:
    """Count hits and misses of every label that occurs, or that is named.

    Args:
        references: The true label of each row.
        predictions: The given label of each row; ``None`` when none was given.
        labels: More labels to list, in any order.
    """
    true, given = Counter(references), Counter(p for p in predictions if p is not None)
    hits = Counter(r for r, p in zip(references, predictions, strict=True) if r == p)
    return [
        LabelCounts(label, hits[label], given[label] - hits[label], true[label] - hits[label])
        for label in sorted({*true, *given, *labels})
    ]


@dataclass(frozen=True)
class Averages:
    """Precision, recall and F1 of many labels in one figure each."""

    precision: float
    recall: float
    f1: float


def weighted(counts: Sequence[LabelCounts]) -> Averages:
    """Average over labels by the number of rows that have them."""
    total = sum(count.support for count in counts)
    if not total:
        return Averages(0.0, 0.0, 0.0)
    return Averages(
        sum(count.support * count.precision for count in counts) / total,
        sum(count.support * count.recall for count in counts) / total,
        sum(count.support * count.f1 for count in counts) / total,
    )


def macro(counts: Sequence[LabelCounts]) -> Averages:
    """Average over labels, each counting the same."""
    size = max(len(counts), 1)
    return Averages(
        sum(count.precision for count in counts) / size,
        sum(count.recall for count in counts) / size,
        sum(count.f1 for count in counts) / size,
    )


def micro(counts: Sequence[LabelCounts]) -> Averages:
    """Pool the counts of all labels."""
    pooled = LabelCounts(
        "",
        sum(count.true_positives for count in counts),
        sum(count.false_positives for count in counts),
        sum(count.false_negatives for count in counts),
    )
    return Averages(pooled.precision, pooled.recall, pooled.f1)


def accuracy(references: Sequence[str], predictions: Sequence[str | None]) -> float:
    """Share of rows whose prediction is exactly the reference."""
    hits = sum(r == p for r, p in zip(references, predictions, strict=True))
    return _share(hits, len(references))


def balanced_accuracy(counts: Sequence[LabelCounts]) -> float:
    """Mean recall over the labels that occur in the references."""
    present = [count for count in counts if count.support]
    return _share(sum(count.recall for count in present), len(present))
