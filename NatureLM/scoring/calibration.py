"""Does a model know what it does not know? Calibration and risk against coverage.

Knows pairs of a confidence in [0, 1] and right or wrong, nothing else. Bins have equal width; an empty bin says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 10
POINTS = 200
"""Most points kept of the risk curve; its mean uses all."""


@dataclass(frozen=True)
class Bin:
    """One bin of the reliability diagram.

    Attributes:
        low: Lower edge of the confidence; 1.0 falls into the last bin.
        high: Upper edge.
        rows: Rows in it.
        confidence: Their mean confidence.
        accuracy: Share of them that are right.
    """

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True)
class Calibration:
    """How confidence and correctness go together.

    Attributes:
        rows: Rows that have a confidence.
        ece: Expected calibration error, from 0 to 1.
        brier: Mean squared difference between confidence and correctness.
        bins: The reliability diagram; empty bins are left out.
        coverage: Share of rows answered when the least confident are left out, rising to 1.
        risk: Share of wrong rows among those, for each coverage.
        aurc: Mean risk over all coverages.
    """

    rows: int
    ece: float
    brier: float
    bins: tuple[Bin, ...]
    coverage: tuple[float, ...]
    risk: tuple[float, ...]
    aurc: float


def calibrate(confidences: Sequence[float], correct: Sequence[bool]) -> Calibration | None:
    """Measure calibration; ``None`` when there is nothing to measure."""
    if not confidences:
        return None
    sure, right = np.asarray(confidences, dtype=float), np.asarray(correct, dtype=float)
    bins = _bins(sure, right)
    ece = sum(each.rows * abs(each.confidence - each.accuracy) for each in bins) / len(sure)
    coverage, risk = _risk_coverage(sure, right)
    shown = np.unique(np.linspace(0, len(coverage) - 1, POINTS).round().astype(int))
    return Calibration(
        len(sure),
        float(ece),
        float(np.mean((sure - right) ** 2)),
        bins,
        tuple(coverage[shown].tolist()),
        tuple(risk[shown].tolist()),
        float(_mean_risk(coverage, risk)),
    )


def _bins(sure: np.ndarray, right: np.ndarray) -> tuple[Bin, ...]:
    places = np.minimum((sure * BINS).astype(int), BINS - 1)
    return tuple(
        Bin(
            place / BINS,
            (place + 1) / BINS,
            int(mine.sum()),
            float(sure[mine].mean()),
            float(right[mine].mean()),
        )
        for place in range(BINS)
        if (mine := places == place).any()
    )


def _risk_coverage(sure: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Step through falling confidence; rows of equal confidence are taken together."""
    order = np.argsort(-sure, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(sure[order])), len(order) - 1)
    wrong = np.cumsum(1 - right[order])[ends]
    return (ends + 1) / len(order), wrong / (ends + 1)


def _mean_risk(coverage: np.ndarray, risk: np.ndarray) -> float:
    return float(np.sum(np.diff(coverage, prepend=0.0) * risk))
