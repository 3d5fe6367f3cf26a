"""A prediction file scored: official and corrected figures, intervals, calibration and taxonomic credit in one record.

Knows files and scorers, no model. Nothing is left out silently: what could not be computed is there with its reason, and rows
that could not be used are listed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from NatureLM import __version__
from NatureLM.errors import DependencyError, FormatError
from NatureLM.eval.spice import find_spice
from NatureLM.scoring.beans_zero import OfficialScore, Spice, score_official
from NatureLM.scoring.calibration import Calibration, calibrate
from NatureLM.scoring.corrected import ComponentScore, CorrectedScore, score_corrected
from NatureLM.scoring.figures import intervals
from NatureLM.scoring.rows import PredictionFile, PredictionRow, read_predictions
from NatureLM.scoring.statistics import LEVEL, RESAMPLES, SEED, Interval
from NatureLM.scoring.taxonomic import (
    Lookup,
    TaxonomicCredit,
    first_of,
    ranks_of_binomial,
    ranks_of_lineage,
    taxonomic_credit,
)
from NatureLM.scoring.vocabulary import Component, beans_zero_components

Scorer = Literal["official", "corrected", "both"]
SCORER_VERSION = "1"
"""Changes when a figure of the corrected scorer would change."""

MOSTLY = 0.9
"""Share of a vocabulary that must read as taxa before its labels are taken for taxa."""

OFFICIAL_REFERENCE = "beans-zero 1.0.0"


@dataclass(frozen=True)
class ScoreSettings:
    """How a file is scored.

    Attributes:
        scorer: Which scorer, or both.
        resamples: Draws of the bootstrap; 0 leaves intervals out.
        seed: Determines the draws.
        spice_folder: Where SPICE's jars are.
        components: The benchmark's components; BEANS-Zero's when ``None``.
        lookup: Finds the ranks of a label, beside those that can be read off the label.
    """

    scorer: Scorer = "both"
    resamples: int = RESAMPLES
    seed: int = SEED
    spice_folder: str | Path | None = None
    components: Mapping[str, Component] | None = None
    lookup: Lookup | None = None


DEFAULT_SETTINGS = ScoreSettings()


@dataclass(frozen=True)
class Evaluation:
    """Everything known about a prediction file.

    Attributes:
        file: The rows and what was wrong with them.
        digest: SHA-256 of the file, or "" for rows from memory.
        settings: How it was scored.
        official: Official figures, if asked for.
        corrected: Corrected figures, if asked for.
        intervals: Component to figure to interval.
        calibration: Component to calibration, where the rows have confidences.
        taxonomic: Component to taxonomic credit, where labels are taxa.
        warnings: What a reader should know.
    """

    file: PredictionFile
    digest: str
    settings: ScoreSettings
    official: OfficialScore | None = None
    corrected: CorrectedScore | None = None
    intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    calibration: Mapping[str, Calibration] = field(default_factory=dict)
    taxonomic: Mapping[str, TaxonomicCredit] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def components(self) -> Mapping[str, Component]:
        """The benchmark's components."""
        return benchmark(self.settings)

    def as_dict(self) -> dict[str, Any]:
        """Write everything as JSON-able values, without the rows."""
        return {
            "file": self.file.name,
            "sha256": self.digest,
            "rows": len(self.file.rows),
            "naturelm": __version__,
            "scorer_version": SCORER_VERSION,
            "bootstrap": {
                "resamples": self.settings.resamples,
                "seed": self.settings.seed,
                "level": LEVEL,
            },
            "official": _official_dict(self.official, self.file) if self.official else None,
            "corrected": self._corrected_dict() if self.corrected else None,
            "row_errors": [asdict(fault) for fault in self.file.faults],
            "warnings": list(self.warnings),
        }

    def _corrected_dict(self) -> dict[str, Any]:
        scores = self.corrected.components if self.corrected else {}
        return {name: self._component_dict(name, score) for name, score in scores.items()}

    def _component_dict(self, name: str, score: ComponentScore) -> dict[str, Any]:
        sure, credit = self.calibration.get(name), self.taxonomic.get(name)
        return {
            "task": score.component.task,
            "rows": len(score.outcomes),
            "failed_rows": score.failed,
            "headline": score.headline,
            "metrics": dict(score.metrics),
            "intervals": {k: asdict(v) for k, v in self.intervals.get(name, {}).items()},
            "not_computed": dict(score.not_computed),
            "presence": asdict(score.presence) if score.presence else None,
            "labels": [label_dict(each, score.average_precision) for each in score.labels],
            "undeclared_labels": list(score.undeclared),
            "common_invalid_answers": [list(pair) for pair in score.common_invalid],
            "calibration": asdict(sure) if sure else None,
            "taxonomic": _taxonomic_dict(credit) if credit else None,
        }


def label_dict(counts: Any, precision: Mapping[str, float]) -> dict[str, Any]:
    """Write the line of one label."""
    return {
        "label": counts.label,
        "support": counts.support,
        "precision": counts.precision,
        "recall": counts.recall,
        "f1": counts.f1,
        "average_precision": precision.get(counts.label),
    }


def _taxonomic_dict(credit: TaxonomicCredit) -> dict[str, Any]:
    families = [label_dict(each, {}) for each in credit.families]
    return {"rows": dict(credit.rows), "accuracy": dict(credit.accuracy), "families": families}


def _official_dict(score: OfficialScore, file: PredictionFile) -> dict[str, Any]:
    captions = score.captioning
    return {
        "protocol": OFFICIAL_REFERENCE,
        "metrics": {name: dict(metrics) for name, metrics in score.metrics.items()},
        "not_computed": dict(score.errors),
        "captioning": None
        if captions is None
        else {
            "cider": captions.cider.mean,
            "spice": captions.spice,
            "spider": captions.spider,
            "reason": captions.reason,
        },
        "missing_components": list(score.missing),
        "unknown_datasets": list(score.unknown),
        "official_tool_stops_with": file.official_stop,
    }


def benchmark(settings: ScoreSettings) -> Mapping[str, Component]:
    """Give the components that the settings name."""
    return beans_zero_components() if settings.components is None else settings.components


def evaluate_file(path: str | Path, settings: ScoreSettings = DEFAULT_SETTINGS) -> Evaluation:
    """Score a prediction file.

    Raises:
        FormatError: The file cannot be read, or none of its rows belongs to the benchmark.
    """
    file = read_predictions(path)
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    return evaluate_predictions(file, settings, digest)


def evaluate_rows(
    rows: Sequence[PredictionRow], settings: ScoreSettings = DEFAULT_SETTINGS
) -> Evaluation:
    """Score rows from memory."""
    return evaluate_predictions(PredictionFile(tuple(rows)), settings)


def evaluate_predictions(
    file: PredictionFile, settings: ScoreSettings, digest: str = ""
) -> Evaluation:
    """Score what was read.

    Raises:
        FormatError: No row belongs to the benchmark.
    """
    known = benchmark(settings)
    found = dict.fromkeys(row.dataset for row in file.rows)
    if not any(name in known for name in found):
        names = ", ".join(list(found)[:5]) or "no usable row"
        first = f"; first fault: {file.faults[0]}" if file.faults else ""
        raise FormatError(
            f"{file.name}: no row of a known component, only: {names}; expected such as {next(iter(known))}{first}"
        )
    spice, reason = _spice(settings, {known[name].task for name in found if name in known})
    official = corrected = None
    if settings.scorer in ("official", "both"):
        official = score_official(file.rows, known, spice, reason)
    if settings.scorer in ("corrected", "both"):
        corrected = score_corrected(file.rows, known, spice, reason)
    scores = corrected.components if corrected else {}
    return Evaluation(
        file,
        digest,
        settings,
        official,
        corrected,
        {
            name: intervals(score, settings.resamples, settings.seed)
            for name, score in scores.items()
        }
        if settings.resamples
        else {},
        _present({name: _calibration(score) for name, score in scores.items()}),
        _present({name: _credit(score, settings.lookup) for name, score in scores.items()}),
        _warnings(file, known),
    )


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _spice(settings: ScoreSettings, tasks: set[str]) -> tuple[Spice | None, str]:
    if "captioning" not in tasks:
        return None, "no captions"
    try:
        return find_spice(settings.spice_folder), ""
    except DependencyError as error:
        return None, str(error)


def _calibration(score: ComponentScore) -> Calibration | None:
    """Measure calibration over the rows that say how sure the model was."""
    if score.component.task != "classification":
        return None
    pairs = [
        (sure, bool(outcome.value))
        for outcome in score.outcomes
        if (sure := _confidence(outcome.row)) is not None
    ]
    return calibrate([sure for sure, _ in pairs], [right for _, right in pairs])


def _confidence(row: PredictionRow) -> float | None:
    """Take the row's own confidence, or its highest score where the scores are probabilities."""
    if row.confidence is not None or not row.scores:
        return row.confidence
    values = list(row.scores.values())
    if min(values) < 0 or abs(sum(values) - 1) > 1e-3:
        return None
    return min(max(values), 1.0)


def _credit(score: ComponentScore, lookup: Lookup | None) -> TaxonomicCredit | None:
    """Give taxonomic credit where labels are taxa: by lookup, or because nearly all of them read as such."""
    if score.component.task != "classification":
        return None
    labels = [each.label for each in score.labels]
    lookups = [lookup] if lookup else []
    lookups += [
        reading
        for reading in (ranks_of_lineage, ranks_of_binomial)
        if sum(reading(label) is not None for label in labels) > MOSTLY * len(labels)
    ]
    return taxonomic_credit(score.outcomes, first_of(*lookups)) if lookups else None


def _warnings(file: PredictionFile, known: Mapping[str, Component]) -> tuple[str, ...]:
    counts = dict.fromkeys(known, 0)
    unknown: dict[str, int] = {}
    for row in file.rows:
        target = counts if row.dataset in counts else unknown
        target[row.dataset] = target.get(row.dataset, 0) + 1
    found = []
    missing = [name for name, count in counts.items() if not count]
    if missing:
        found.append(f"{len(missing)} of {len(known)} components have no row: {', '.join(missing)}")
    if unknown:
        rows = sum(unknown.values())
        found.append(f"{rows} row(s) of unknown components are ignored: {', '.join(unknown)}")
    partial = [
        f"{name} has {count} of {known[name].rows}"
        for name, count in counts.items()
        if 0 < count != known[name].rows > 0
    ]
    if partial:
        more = f" and {len(partial) - 3} components more" if len(partial) > 3 else ""
        found.append(
            "official targets and document frequencies come from the file, so scores of a part do not compare with those "
            f"of the whole: {', '.join(partial[:3])}{more}"
        )
    return (*found, *_stop_warnings(file))


def _stop_warnings(file: PredictionFile) -> Iterator[str]:
    failed = sum(row.prediction is None for row in file.rows)
    if failed:
        yield (
            f"{failed} row(s) without a prediction are left out of the official figures and wrong in the corrected ones"
        )
    if file.official_stop:
        yield f"the official tool stops on this file with {file.official_stop}"
