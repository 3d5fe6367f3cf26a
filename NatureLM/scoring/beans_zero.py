"""The official BEANS-Zero protocol, bug for bug (BENCHMARKS 1.4), so that figures compare with published ones.

Knows rows, no files. Its targets are the label strings that happen to be in the file under test, every answer is forced onto the
nearest of them, and a combination of labels is one target: read ``corrected.py`` for what those do to a score.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from NatureLM.scoring.captioning import Cider, cider, spider
from NatureLM.scoring.classification import accuracy, count_labels, macro, weighted
from NatureLM.scoring.detection import average_precision, count_sets
from NatureLM.scoring.matching import LabelMatcher
from NatureLM.scoring.normalize import until_end_of_text
from NatureLM.scoring.rows import PredictionRow
from NatureLM.scoring.vocabulary import NONE, Component, beans_zero_components

FARTHEST = 5
"""Edits beyond which a detected label becomes "None"."""

_log = logging.getLogger(__name__)

Spice = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
"""SPICE of captions against one reference each, in [0, 1]."""


@dataclass(frozen=True)
class CaptionScore:
    """Captioning, with the reason when a part could not be computed.

    Attributes:
        cider: CIDEr-D of the captions.
        spice: Mean SPICE, or ``None``.
        spider: ``(CIDEr/10 + SPICE)/2``, or ``None``.
        reason: Why SPICE and SPIDEr are missing, or "".
    """

    cider: Cider
    spice: float | None
    spider: float | None
    reason: str = ""


@dataclass(frozen=True)
class OfficialScore:
    """What the official tool would say, and what it leaves unsaid.

    Attributes:
        metrics: Component to metric to value, as the official tool writes it.
        processed: The answer after matching, one a row; ``None`` where the component is unknown or there was no prediction.
        captioning: CIDEr and SPIDEr, when the file has captions.
        missing: Components that have no row in the file.
        unknown: Names in the file that are not components.
        errors: Component to the reason why it has no metrics.
    """

    metrics: Mapping[str, Mapping[str, float]]
    processed: tuple[str | None, ...]
    captioning: CaptionScore | None = None
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    errors: Mapping[str, str] = field(default_factory=dict)


def score_official(
    rows: Sequence[PredictionRow],
    components: Mapping[str, Component] | None = None,
    spice: Spice | None = None,
    no_spice_reason: str = "no SPICE was given",
) -> OfficialScore:
    """Score rows as the official tool does.

    Rows without a prediction are left out, though their labels are targets; the official tool stops at them.

    Args:
        rows: All rows of one file, in order.
        components: The benchmark's components; BEANS-Zero's when left out.
        spice: Computes SPICE of captions.
        no_spice_reason: Said when ``spice`` is not given.
    """
    known = beans_zero_components() if components is None else components
    unknown = dict.fromkeys(row.dataset for row in rows if row.dataset not in known)
    groups, targets = _grouped(rows, known)
    processed: list[str | None] = [None] * len(rows)
    metrics: dict[str, Mapping[str, float]] = {}
    errors: dict[str, str] = {}
    captioning = None
    for name, indices in groups.items():
        if not indices:
            if targets[name]:
                errors[name] = "no metrics: no row has a prediction"
            continue
        labels = [rows[index].label for index in indices]
        texts = [rows[index].prediction or "" for index in indices]
        answers = process(texts, targets[name], known[name].task)
        for index, answer in zip(indices, answers, strict=True):
            processed[index] = answer
        if known[name].task == "captioning":
            captioning = score_captions(answers, labels, spice, no_spice_reason)
        found = _metrics(known[name].task, answers, labels, captioning)
        if isinstance(found, str):
            errors[name] = found
        else:
            metrics[name] = found
    missing = tuple(name for name, labels in targets.items() if not labels)
    return OfficialScore(metrics, tuple(processed), captioning, missing, tuple(unknown), errors)


def _grouped(
    rows: Sequence[PredictionRow], known: Mapping[str, Component]
) -> tuple[dict[str, list[int]], dict[str, set[str]]]:
    """Find the rows with a prediction, and the labels of all rows, of each component."""
    groups: dict[str, list[int]] = {name: [] for name in known}
    targets: dict[str, set[str]] = {name: set() for name in known}
    for index, row in enumerate(rows):
        if row.dataset in known:
            targets[row.dataset].add(row.label)
            if row.prediction is not None:
                groups[row.dataset].append(index)
    return groups, targets


def _metrics(
    task: str, answers: Sequence[str], labels: Sequence[str], captions: CaptionScore | None
) -> dict[str, float] | str:
    """Compute the metrics of one component, or say why there are none."""
    if task == "classification":
        return classification_metrics(answers, labels)
    if task == "detection":
        if not _classes(labels):
            return f'no metrics: every label is "{NONE}", so there is no class to score'
        return detection_metrics(answers, labels)
    if captions is None or captions.spider is None:
        return f"spider_score not computed: {captions.reason if captions else 'no captions'}"
    return {"spider_score": captions.spider}


def process(predictions: Iterable[str], targets: Iterable[str], task: str) -> list[str]:
    """Match predictions onto the label strings of the same file.

    Args:
        predictions: Raw text of the model.
        targets: Raw references of the same component.
        task: ``classification``, ``detection`` or ``captioning``.
    """
    if task == "captioning":
        return list(predictions)
    if task == "classification":
        matcher = LabelMatcher(targets)
        return [matcher.nearest(until_end_of_text(text)).label for text in predictions]
    matcher = LabelMatcher({*targets, NONE})
    return [", ".join(_near(part, matcher) for part in text.split(",")) for text in predictions]


def _near(part: str, targets: LabelMatcher) -> str:
    """Match one part of a list; the part is stripped before it is cut at the end-of-text mark."""
    found = targets.nearest(until_end_of_text(part.strip()))
    return found.label if found.distance <= FARTHEST else NONE


def classification_metrics(answers: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    """Compute the official classification metrics of matched answers."""
    averages = weighted(count_labels(labels, answers))
    first = [
        answer in {piece.strip() for piece in label.split(",")}
        for answer, label in zip(answers, labels, strict=True)
    ]
    return {
        "Accuracy": accuracy(labels, answers),
        "Precision": averages.precision,
        "Recall": averages.recall,
        "F1 Score": averages.f1,
        "Top-1 Accuracy": sum(first) / len(first),
    }


def _pieces(text: str) -> set[str]:
    """Take a joined string apart; the whole string "none" in any case names nothing."""
    return set() if text.lower() == NONE.lower() else {piece.strip() for piece in text.split(",")}


def _classes(labels: Iterable[str]) -> list[str]:
    return sorted({piece for label in set(labels) for piece in _pieces(label)})


def detection_metrics(answers: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    """Compute the official detection metrics of matched answers; equal scores keep row order in ``mAP``."""
    classes = _classes(labels)
    known = {text: frozenset(_pieces(text)) for text in {*answers, *labels}}
    truth, given = [known[label] for label in labels], [known[answer] for answer in answers]
    averages = macro(count_sets(truth, given, classes))
    precisions = [
        average_precision(
            np.fromiter((name in row for row in truth), dtype=bool, count=len(truth)),
            np.fromiter((name in row for row in given), dtype=np.int8, count=len(given)),
        )
        for name in classes
    ]
    return {
        "F1": averages.f1,
        "Precision": averages.precision,
        "Recall": averages.recall,
        "mAP": float(np.mean(precisions)),
    }


def score_captions(
    answers: Sequence[str], labels: Sequence[str], spice: Spice | None, reason: str
) -> CaptionScore:
    """Score captions; a SPICE that fails becomes a reason, never a missing row."""
    measured = cider(answers, labels)
    if spice is None:
        return CaptionScore(measured, None, None, reason)
    try:
        values = spice(answers, labels)
    except (OSError, ValueError, RuntimeError) as error:
        _log.warning("SPICE failed: %s", error)
        return CaptionScore(measured, None, None, str(error))
    mean = float(np.mean(values))
    return CaptionScore(measured, mean, spider(measured.mean, mean))
