"""Uncertainty: bootstrap over recordings, paired differences, McNemar's test, Holm's correction.

Knows numbers and which recording a row was cut from. Rows of one recording are drawn together, because they are not independent;
the draws depend on the seed only, so that an interval can be computed again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES, LEVEL, SEED = 1000, 0.95, 0

Statistic = Callable[[np.ndarray], Mapping[str, float]]
"""Weight of each row -> named figures."""


@dataclass(frozen=True)
class Interval:
    """A percentile interval.

    Attributes:
        value: The figure on the rows as they are.
        low: Lower bound.
        high: Upper bound.
    """

    value: float
    low: float
    high: float


def clusters_of(recordings: Sequence[str]) -> np.ndarray:
    """Number the recordings; a row without a name is a recording of its own."""
    numbers: dict[str, int] = {}
    return np.array(
        [
            numbers.setdefault(name or f"\0{place}", len(numbers))
            for place, name in enumerate(recordings)
        ],
        dtype=np.int64,
    )


def draws(
    clusters: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED
) -> Iterator[np.ndarray]:
    """Draw recordings with replacement; yield how often each row was drawn.

    Args:
        clusters: Number of the recording of each row.
        resamples: How many draws.
        seed: Determines the draws.
    """
    count = int(clusters.max()) + 1 if clusters.size else 0
    random = np.random.default_rng(seed)
    for _ in range(resamples if count else 0):
        yield np.bincount(random.integers(0, count, count), minlength=count)[clusters]


def bootstrap(
    statistic: Statistic, clusters: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED
) -> dict[str, Interval]:
    """Compute percentile intervals of figures, drawing recordings.

    Args:
        statistic: Weight of each row -> figures; called once per draw.
        clusters: Number of the recording of each row.
        resamples: How many draws.
        seed: Determines the draws.
    """
    whole = statistic(np.ones(len(clusters), dtype=np.int64))
    drawn = [statistic(weights) for weights in draws(clusters, resamples, seed)]
    tail = (1 - LEVEL) / 2
    found = {}
    for name, value in whole.items():
        values = [figures[name] for figures in drawn] or [value]
        low, high = np.quantile(values, (tail, 1 - tail))
        found[name] = Interval(float(value), float(low), float(high))
    return found


@dataclass(frozen=True)
class Difference:
    """B minus A on the same rows.

    Attributes:
        interval: The difference and its percentile interval.
        p_value: Two-sided, from how often the draws change sign.
    """

    interval: Interval
    p_value: float


def paired_bootstrap(
    first: Statistic,
    second: Statistic,
    clusters: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Difference]:
    """Compare two runs on the same rows, draw by draw.

    Args:
        first: Figures of run A.
        second: Figures of run B.
        clusters: Number of the recording of each row.
        resamples: How many draws.
        seed: Determines the draws.
    """

    def difference(weights: np.ndarray) -> dict[str, float]:
        before, after = first(weights), second(weights)
        return {name: after[name] - before[name] for name in before if name in after}

    whole = difference(np.ones(len(clusters), dtype=np.int64))
    drawn = [difference(weights) for weights in draws(clusters, resamples, seed)]
    tail = (1 - LEVEL) / 2
    found = {}
    for name, value in whole.items():
        values = np.array([figures[name] for figures in drawn] or [value])
        low, high = np.quantile(values, (tail, 1 - tail))
        side = min(int((values <= 0).sum()), int((values >= 0).sum()))
        p_value = min(1.0, 2 * (side + 1) / (len(values) + 1))
        found[name] = Difference(Interval(float(value), float(low), float(high)), p_value)
    return found


@dataclass(frozen=True)
class McNemar:
    """Rows on which two runs disagree, and how likely that is by chance.

    Attributes:
        only_first: Rows that only run A has right.
        only_second: Rows that only run B has right.
        p_value: Exact, two-sided.
    """

    only_first: int
    only_second: int
    p_value: float


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """Test whether two runs are right equally often, from the rows on which they disagree."""
    pairs = list(zip(first, second, strict=True))
    only_first, only_second = pairs.count((True, False)), pairs.count((False, True))
    return McNemar(
        only_first,
        only_second,
        _two_sided_binomial(min(only_first, only_second), only_first + only_second),
    )


def _two_sided_binomial(successes: int, trials: int) -> float:
    if not trials:
        return 1.0
    places = range(successes + 1)
    logs = [
        math.lgamma(trials + 1)
        - math.lgamma(k + 1)
        - math.lgamma(trials - k + 1)
        - trials * math.log(2)
        for k in places
    ]
    return min(1.0, 2 * math.fsum(math.exp(value) for value in logs))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Correct p-values for having been looked at together (Holm 1979)."""
    ordered = sorted(p_values.items(), key=lambda item: item[1])
    corrected, floor = {}, 0.0
    for place, (name, value) in enumerate(ordered):
        floor = max(floor, min(1.0, value * (len(ordered) - place)))
        corrected[name] = floor
    return {name: corrected[name] for name in p_values}
