"""The scorer that the official one should have been (BENCHMARKS 1.5); report both.

Knows rows and declared vocabularies, no files. Labels come from the declaration and not from the file under test, lists are matched
label by label, an answer that names no label is invalid and wrong, and what cannot be computed says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from NatureLM.scoring.answers import AnswerReader, ManyLabels, OneLabel
from NatureLM.scoring.beans_zero import Spice, score_captions
from NatureLM.scoring.classification import (
    Averages,
    LabelCounts,
    balanced_accuracy,
    count_labels,
    macro,
    micro,
    weighted,
)
from NatureLM.scoring.detection import (
    Presence,
    count_sets,
    mean_average_precision,
    presence,
    samples_f1,
)
from NatureLM.scoring.normalize import answered, folded
from NatureLM.scoring.rows import PredictionRow
from NatureLM.scoring.vocabulary import NONE, Component, beans_zero_components

NO_SCORES = "not computed: the file has no scores of labels"
"""Why there is no mAP: hard labels carry no ranking."""


@dataclass(frozen=True)
class Outcome:
    """What became of one row.

    Attributes:
        row: The row.
        truth: Labels in the reference; empty when nothing is there.
        named: Labels in the answer, spelling forgiven; ``None`` when the model failed on the row.
        value: Credit of the row: 1 when all labels are right, else 0; for captions CIDEr, from 0 to 1.
        invalid: The answer names something outside the vocabulary, or nothing that can be read.
    """

    row: PredictionRow
    truth: frozenset[str]
    named: frozenset[str] | None
    value: float
    invalid: bool

    @property
    def given(self) -> frozenset[str]:
        """Labels in the answer, none when the model failed."""
        return self.named or frozenset()


@dataclass(frozen=True)
class ComponentScore:
    """The corrected score of one component.

    Attributes:
        component: What was declared.
        metrics: Metric to value, each from 0 to 1 except ``cider`` (0 to 10).
        headline: Name of the metric to quote first.
        outcomes: What became of each row.
        labels: One line a label of the vocabulary.
        presence: Presence against absence, for detection.
        average_precision: Of each label, when the rows have scores.
        not_computed: Metric to the reason why it is missing.
        undeclared: Labels of the references that the vocabulary lacks; they were added.
        common_invalid: The most common invalid answers and how often they came.
    """

    component: Component
    metrics: Mapping[str, float]
    headline: str
    outcomes: tuple[Outcome, ...]
    labels: tuple[LabelCounts, ...] = ()
    presence: Presence | None = None
    average_precision: Mapping[str, float] = field(default_factory=dict)
    not_computed: Mapping[str, str] = field(default_factory=dict)
    undeclared: tuple[str, ...] = ()
    common_invalid: tuple[tuple[str, int], ...] = ()

    @property
    def failed(self) -> int:
        """Rows on which the model failed; they count as wrong."""
        return sum(outcome.named is None for outcome in self.outcomes)


@dataclass(frozen=True)
class CorrectedScore:
    """The corrected scores of a file.

    Attributes:
        components: Score of each component that has rows.
        missing: Components without a row.
        unknown: Names in the file that are not components.
    """

    components: Mapping[str, ComponentScore]
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def score_corrected(
    rows: Sequence[PredictionRow],
    components: Mapping[str, Component] | None = None,
    spice: Spice | None = None,
    no_spice_reason: str = "no SPICE was given",
) -> CorrectedScore:
    """Score rows against declared vocabularies.

    Args:
        rows: All rows of one file; a row without a prediction counts as wrong.
        components: The benchmark's components; BEANS-Zero's when left out.
        spice: Computes SPICE of captions.
        no_spice_reason: Said when ``spice`` is not given.
    """
    known = beans_zero_components() if components is None else components
    groups: dict[str, list[PredictionRow]] = {name: [] for name in known}
    unknown: dict[str, None] = {}
    for row in rows:
        if row.dataset in groups:
            groups[row.dataset].append(row)
        else:
            unknown.setdefault(row.dataset)
    scores = {}
    for name, mine in groups.items():
        if mine and known[name].task == "captioning":
            scores[name] = _captions(known[name], mine, spice, no_spice_reason)
        elif mine:
            scores[name] = score_component(known[name], mine)
    missing = tuple(name for name, mine in groups.items() if not mine)
    return CorrectedScore(scores, missing, tuple(unknown))


def score_component(component: Component, rows: Sequence[PredictionRow]) -> ComponentScore:
    """Score the rows of one classification or detection component."""
    reader, undeclared = _reader(component, rows)
    if component.task == "detection":
        return _detection(component, rows, reader, undeclared)
    return _classification(component, rows, reader, undeclared)


def _reader(component: Component, rows: Sequence[PredictionRow]) -> tuple[AnswerReader, list[str]]:
    """Build the reader of a vocabulary that holds every reference."""
    declared = component.vocabulary
    if component.task == "classification":
        known = {folded(label) for label in declared}
        extra = sorted({row.label for row in rows if folded(row.label) not in known})
        return AnswerReader([*declared, *extra]), extra
    first = AnswerReader(declared or (NONE,))
    labels = frozenset[str]().union(*(first.labels_of(row.label) for row in rows))
    extra = sorted(labels - set(declared))
    return AnswerReader([*declared, *extra] or [NONE]), extra


def _classification(
    component: Component,
    rows: Sequence[PredictionRow],
    reader: AnswerReader,
    undeclared: list[str],
) -> ComponentScore:
    truth = [reader.one(row.label).normalised or row.label for row in rows]
    read = [None if row.prediction is None else reader.one(row.prediction) for row in rows]
    outcomes = tuple(_one(*each) for each in zip(rows, truth, read, strict=True))
    counts = count_labels(
        truth, [one.normalised if one else None for one in read], reader.vocabulary
    )
    pairs = list(zip(read, truth, strict=True))
    metrics = {
        "accuracy_normalised": fmean(outcome.value for outcome in outcomes),
        "accuracy_strict": fmean(_is(one, "strict", label) for one, label in pairs),
        "accuracy_nearest": fmean(_is(one, "nearest", label) for one, label in pairs),
        "balanced_accuracy": balanced_accuracy(counts),
        "invalid_rate": fmean(outcome.invalid for outcome in outcomes),
        **_averages(_occurring(counts), counts),
        "f1_samples": fmean(outcome.value for outcome in outcomes),
    }
    precision = _precisions(outcomes, reader)
    return ComponentScore(
        component,
        metrics | _map(precision),
        "accuracy_normalised",
        outcomes,
        tuple(counts),
        average_precision=precision,
        not_computed=_why_no_map(precision),
        undeclared=tuple(undeclared),
        common_invalid=_common([outcome.row.prediction for outcome in outcomes if outcome.invalid]),
    )


def _one(row: PredictionRow, label: str, read: OneLabel | None) -> Outcome:
    if read is None:
        return Outcome(row, frozenset((label,)), None, 0.0, invalid=False)
    named = frozenset((read.normalised,)) if read.normalised is not None else frozenset[str]()
    return Outcome(
        row, frozenset((label,)), named, float(read.normalised == label), invalid=not named
    )


def _is(read: OneLabel | None, way: str, label: str) -> bool:
    return read is not None and getattr(read, way) == label


def _occurring(counts: Sequence[LabelCounts]) -> list[LabelCounts]:
    """Leave out labels that no reference has: their recall is not defined."""
    return [count for count in counts if count.support]


def _averages(counts: Sequence[LabelCounts], every: Sequence[LabelCounts] = ()) -> dict[str, float]:
    """Name precision, recall and F1 in three averages; micro pools every label that was named."""
    ways: dict[str, Averages] = {
        "macro": macro(counts),
        "micro": micro(every or counts),
        "weighted": weighted(counts),
    }
    return {
        f"{metric}_{way}": getattr(averages, metric)
        for way, averages in ways.items()
        for metric in ("f1", "precision", "recall")
    }


def _detection(
    component: Component,
    rows: Sequence[PredictionRow],
    reader: AnswerReader,
    undeclared: list[str],
) -> ComponentScore:
    read = [None if row.prediction is None else reader.many(row.prediction) for row in rows]
    outcomes = tuple(_several(*each, reader) for each in zip(rows, read, strict=True))
    truths, given = [each.truth for each in outcomes], [each.given for each in outcomes]
    labels = [label for label in reader.vocabulary if label != NONE]
    counts, there = count_sets(truths, given, labels), presence(truths, given)
    metrics = {
        **_averages(_occurring(counts), counts),
        "f1_samples": samples_f1(truths, given),
        "f1_macro_strict": _macro_f1(
            truths, [each.strict if each else _EMPTY for each in read], labels
        ),
        "f1_macro_nearest": _macro_f1(
            truths, [each.nearest if each else _EMPTY for each in read], labels
        ),
        "exact_match": fmean(outcome.value for outcome in outcomes),
        "invalid_rate": fmean(outcome.invalid for outcome in outcomes),
        "presence_recall": _share(there.found, there.found + there.missed),
        "absence_recall": _share(there.agreed_none, there.agreed_none + there.imagined),
    }
    precision = _precisions(outcomes, reader)
    return ComponentScore(
        component,
        metrics | _map(precision),
        "f1_macro",
        outcomes,
        tuple(counts),
        there,
        precision,
        _why_no_map(precision),
        tuple(undeclared),
        _common([part for many in read if many for part in many.invalid]),
    )


_EMPTY: frozenset[str] = frozenset()


def _several(row: PredictionRow, read: ManyLabels | None, reader: AnswerReader) -> Outcome:
    truth = reader.labels_of(row.label)
    if read is None:
        return Outcome(row, truth, None, 0.0, invalid=False)
    right = not read.invalid and truth == read.normalised
    return Outcome(row, truth, read.normalised, float(right), bool(read.invalid))


def _macro_f1(
    truths: Sequence[frozenset[str]], given: Sequence[frozenset[str]], labels: Sequence[str]
) -> float:
    return macro(_occurring(count_sets(truths, given, labels))).f1


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _precisions(outcomes: Sequence[Outcome], reader: AnswerReader) -> dict[str, float]:
    """Measure the average precision of each label over the rows that have scores."""
    scored = [(outcome, outcome.row.scores) for outcome in outcomes if outcome.row.scores]
    named = {
        key: reader.one(key).normalised or key for _, scores in scored for key in (scores or ())
    }
    return mean_average_precision(
        [outcome.truth for outcome, _ in scored],
        [{named[key]: value for key, value in (scores or {}).items()} for _, scores in scored],
        reader.vocabulary,
    )


def _map(precision: Mapping[str, float]) -> dict[str, float]:
    return {"mAP": fmean(precision.values())} if precision else {}


def _why_no_map(precision: Mapping[str, float]) -> dict[str, str]:
    return {} if precision else {"mAP": NO_SCORES}


def _common(texts: Sequence[str | None], most: int = 10) -> tuple[tuple[str, int], ...]:
    counter = Counter(answered(text)[:80] for text in texts if text is not None)
    return tuple(sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:most])


def _captions(
    component: Component, rows: Sequence[PredictionRow], spice: Spice | None, reason: str
) -> ComponentScore:
    answers = [answered(row.prediction or "") for row in rows]
    found = score_captions(answers, [row.label for row in rows], spice, reason)
    outcomes = tuple(
        Outcome(
            row, frozenset(), None if row.prediction is None else frozenset(), value / 10, not text
        )
        for row, text, value in zip(rows, answers, found.cider.per_row, strict=True)
    )
    metrics = {"cider": found.cider.mean, "empty_rate": fmean(not text for text in answers)}
    missing = {}
    if found.spice is None or found.spider is None:
        missing = dict.fromkeys(("spice", "spider"), f"not computed: {found.reason}")
    else:
        metrics |= {"spice": found.spice, "spider": found.spider}
    headline = "spider" if "spider" in metrics else "cider"
    return ComponentScore(component, metrics, headline, outcomes, not_computed=missing)
