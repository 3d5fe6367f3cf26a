"""The figures of a component as a function of how much each row counts, for resampling.

Knows outcomes and arrays. On equal weights the figures are those of ``corrected.py``; rows are turned into arrays once, so that
a draw costs a few counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from NatureLM.scoring.corrected import ComponentScore, Outcome
from NatureLM.scoring.statistics import Interval, Statistic, bootstrap, clusters_of


def figures(score: ComponentScore) -> Statistic:
    """Turn a score into a function from row weights to its main figures."""
    values = np.array([outcome.value for outcome in score.outcomes])
    if score.component.task == "captioning":
        return lambda weights: {"cider": 10 * _mean(values, weights)}
    labels = _LabelFigures(score.outcomes)
    single = score.component.task == "classification"
    names = (
        ("accuracy_normalised", "balanced_accuracy") if single else ("exact_match", "recall_macro")
    )

    def measure(weights: np.ndarray) -> Mapping[str, float]:
        f1_macro, f1_micro, recall = labels(weights)
        return {
            names[0]: _mean(values, weights),
            "f1_macro": f1_macro,
            "f1_micro": f1_micro,
            names[1]: recall,
        }

    return measure


def intervals(score: ComponentScore, resamples: int, seed: int = 0) -> dict[str, Interval]:
    """Compute percentile intervals of the main figures, drawing recordings."""
    clusters = clusters_of([outcome.row.recording for outcome in score.outcomes])
    return bootstrap(figures(score), clusters, resamples, seed)


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    return float(values @ weights / max(weights.sum(), 1))


class _LabelFigures:
    """Weights -> macro F1 and micro F1, and the mean recall, over the labels that references have."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        names = sorted(set().union(*(o.truth | o.given for o in outcomes)))
        place = {name: index for index, name in enumerate(names)}
        self.size = len(names)
        self.truth = _entries([o.truth for o in outcomes], place)
        self.given = _entries([o.given for o in outcomes], place)
        self.hits = _entries([o.truth & o.given for o in outcomes], place)

    def __call__(self, weights: np.ndarray) -> tuple[float, float, float]:
        true, given, hits = (
            np.bincount(columns, weights=weights[rows], minlength=self.size)
            for rows, columns in (self.truth, self.given, self.hits)
        )
        there = true > 0
        if not there.any():
            return 0.0, 0.0, 0.0
        f1 = 2 * hits[there] / (true[there] + given[there])
        micro = 2 * hits.sum() / (true.sum() + given.sum())
        return float(f1.mean()), float(micro), float((hits[there] / true[there]).mean())


def _entries(
    sets: Sequence[frozenset[str]], place: Mapping[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    rows = np.repeat(np.arange(len(sets)), [len(members) for members in sets])
    columns = [place[name] for name in chain.from_iterable(sets)]
    return rows, np.array(columns, dtype=np.int64)
