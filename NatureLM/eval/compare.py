"""Two runs on the same examples: which is better, and could it be chance?

Knows scored files, no model. Rows are paired by component and id, or by place when there are no ids; p-values are corrected
(Holm) for the number of components looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from NatureLM.errors import FormatError
from NatureLM.eval.score import DEFAULT_SETTINGS, ScoreSettings, benchmark
from NatureLM.scoring.corrected import ComponentScore, Outcome, score_corrected
from NatureLM.scoring.figures import figures
from NatureLM.scoring.rows import PredictionFile, PredictionRow, read_predictions
from NatureLM.scoring.statistics import (
    Difference,
    McNemar,
    clusters_of,
    holm,
    mcnemar,
    paired_bootstrap,
)


@dataclass(frozen=True)
class ComponentComparison:
    """Run B against run A on one component.

    Attributes:
        rows: Rows that both runs have.
        headline: The figure that decides.
        first: The headline figure of run A.
        second: The headline figure of run B.
        differences: Figure to B minus A.
        mcnemar: Rows that only one run has right; for single labels only.
        p_value: Of the headline figure: McNemar's for accuracy when every row is a recording of its own, else the bootstrap's.
        p_holm: The same, corrected for the number of components.
    """

    rows: int
    headline: str
    first: float
    second: float
    differences: Mapping[str, Difference]
    mcnemar: McNemar | None
    p_value: float
    p_holm: float


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        first: Name of file A.
        second: Name of file B.
        components: Component to comparison.
        left_out: Rows that only one of the files has.
        warnings: What a reader should know.
    """

    first: str
    second: str
    components: Mapping[str, ComponentComparison]
    left_out: int = 0
    warnings: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Write everything as JSON-able values."""
        return asdict(replace(self, components=dict(self.components)))


def compare_files(
    first: str | Path, second: str | Path, settings: ScoreSettings = DEFAULT_SETTINGS
) -> Comparison:
    """Compare two prediction files by the corrected scorer.

    Raises:
        FormatError: A file cannot be read, or the files share no row of a known component.
    """
    return compare(read_predictions(first), read_predictions(second), settings)


def compare(
    first: PredictionFile, second: PredictionFile, settings: ScoreSettings = DEFAULT_SETTINGS
) -> Comparison:
    """Compare two runs; see `compare_files`."""
    mine, theirs, left_out = _paired(first.rows, second.rows)
    known = benchmark(settings)
    scored = [score_corrected(rows, known).components for rows in (mine, theirs)]
    found = {
        name: _compare(score, scored[1][name], settings)
        for name, score in scored[0].items()
        if name in scored[1]
    }
    if not found:
        raise FormatError(f"{first.name} and {second.name} share no row of a known component")
    corrected = holm({name: each.p_value for name, each in found.items()})
    warnings = [f"{left_out} row(s) are in one file only and left out"] if left_out else []
    return Comparison(
        first.name,
        second.name,
        {name: replace(each, p_holm=corrected[name]) for name, each in found.items()},
        left_out,
        tuple(warnings),
    )


Key = tuple[str, str, int]


def _keys(rows: Sequence[PredictionRow]) -> dict[Key, PredictionRow]:
    """Name rows by component and id; a repeated or missing id is told apart by its count."""
    seen: Counter[tuple[str, str]] = Counter()
    named: dict[Key, PredictionRow] = {}
    for row in rows:
        name = (row.dataset, row.id)
        named[row.dataset, row.id, seen[name]] = row
        seen[name] += 1
    return named


def _paired(
    first: Sequence[PredictionRow], second: Sequence[PredictionRow]
) -> tuple[list[PredictionRow], list[PredictionRow], int]:
    mine, theirs = _keys(first), _keys(second)
    both = [key for key in mine if key in theirs]
    for key in both:
        if mine[key].label != theirs[key].label:
            raise FormatError(
                f"row {mine[key].number} and row {theirs[key].number} ({' '.join(map(str, key[:2]))}) have different "
                f"references: {mine[key].label!r} and {theirs[key].label!r}; the files are not of one benchmark"
            )
    left_out = len(mine) + len(theirs) - 2 * len(both)
    return [mine[key] for key in both], [theirs[key] for key in both], left_out


def _compare(
    first: ComponentScore, second: ComponentScore, settings: ScoreSettings
) -> ComponentComparison:
    clusters = clusters_of([outcome.row.recording for outcome in first.outcomes])
    differences = paired_bootstrap(
        figures(first), figures(second), clusters, settings.resamples, settings.seed
    )
    headline = {
        "classification": "accuracy_normalised",
        "detection": "f1_macro",
        "captioning": "cider",
    }[first.component.task]
    single = first.component.task == "classification"
    tested = mcnemar(_right(first.outcomes), _right(second.outcomes)) if single else None
    independent = len(set(clusters.tolist())) == len(clusters)
    p_value = tested.p_value if tested and independent else differences[headline].p_value
    return ComponentComparison(
        len(first.outcomes),
        headline,
        first.metrics[headline],
        second.metrics[headline],
        differences,
        tested,
        p_value,
        p_value,
    )


def _right(outcomes: Sequence[Outcome]) -> list[bool]:
    return [outcome.value == 1 for outcome in outcomes]
