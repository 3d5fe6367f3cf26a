"""Metrics of several labels a row: presence and absence, F1 over samples, and average precision.

Knows sets of labels and scores, no text. Average precision ranks by score and, within equal scores, keeps the order of the rows;
hard 0/1 scores therefore rank mostly by row order, which is the official protocol's doing and not a measure of anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np

from NatureLM.scoring.classification import LabelCounts


@dataclass(frozen=True)
class Presence:
    """Is anything there at all? Rows by truth and answer.

    Attributes:
        found: Something is there and something was named.
        missed: Something is there and nothing was named.
        imagined: Nothing is there and something was named.
        agreed_none: Nothing is there and nothing was named.
    """

    found: int
    missed: int
    imagined: int
    agreed_none: int


def presence(
    references: Sequence[AbstractSet[str]], predictions: Sequence[AbstractSet[str]]
) -> Presence:
    """Cross presence in the references with presence in the predictions."""
    pairs = [(bool(r), bool(p)) for r, p in zip(references, predictions, strict=True)]
    return Presence(
        found=pairs.count((True, True)),
        missed=pairs.count((True, False)),
        imagined=pairs.count((False, True)),
        agreed_none=pairs.count((False, False)),
    )


def count_sets(
    references: Sequence[AbstractSet[str]],
    predictions: Sequence[AbstractSet[str]],
    labels: Sequence[str],
) -> list[LabelCounts]:
    """Count hits and misses of each label over rows of label sets."""
    hits, extra, lost = (dict.fromkeys(labels, 0) for _ in range(3))
    for reference, prediction in zip(references, predictions, strict=True):
        for counter, members in (
            (hits, reference & prediction),
            (extra, prediction - reference),
            (lost, reference - prediction),
        ):
            for label in members:
                if label in counter:
                    counter[label] += 1
    return [LabelCounts(label, hits[label], extra[label], lost[label]) for label in labels]


def samples_f1(
    references: Sequence[AbstractSet[str]], predictions: Sequence[AbstractSet[str]]
) -> float:
    """Mean over rows of the F1 between the two label sets; two empty sets agree fully."""
    scores = [
        2 * len(r & p) / (len(r) + len(p)) if r or p else 1.0
        for r, p in zip(references, predictions, strict=True)
    ]
    return float(np.mean(scores)) if scores else 0.0


def average_precision(relevant: np.ndarray, scores: np.ndarray) -> float:
    """Average the precision at every relevant row, ranked by falling score; equal scores keep row order.

    Args:
        relevant: Truth of each row, boolean.
        scores: Score of each row.
    """
    ranked = relevant[np.argsort(-scores, kind="stable")]
    hits = np.flatnonzero(ranked)
    if not hits.size:
        return 0.0
    return float(np.mean(np.arange(1, hits.size + 1) / (hits + 1)))


def tied_average_precision(relevant: np.ndarray, scores: np.ndarray) -> float:
    """Average precision in which rows of one score share one rank, so that row order has no say.

    The area under the precision-recall steps, one step per distinct score.
    """
    total = int(relevant.sum())
    if not total:
        return 0.0
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.cumsum(relevant[order])[ends]
    gains = np.diff(hits, prepend=0) / total
    return float(np.sum(gains * hits / (ends + 1)))


def mean_average_precision(
    references: Sequence[AbstractSet[str]],
    scores: Sequence[Mapping[str, float]],
    labels: Sequence[str],
) -> dict[str, float]:
    """Measure the average precision of each label that occurs, from real scores; a label without a score ranks last."""
    found: dict[str, float] = {}
    lowest = min((value for row in scores for value in row.values()), default=0.0) - 1.0
    for label in labels:
        relevant = np.array([label in reference for reference in references], dtype=bool)
        if relevant.any():
            ranked = np.array([row.get(label, lowest) for row in scores])
            found[label] = tied_average_precision(relevant, ranked)
    return found
