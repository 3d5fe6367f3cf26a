"""The offline scorer of BEANS-Next: answers read, matched, scored row by row, averaged.

Knows lists of predictions and targets, no files. Written from the recorded behaviour of version 0.1.0, quirks included: a range in
hertz counts as a tenth of its middle, and a row's average precision is the share of its targets among all labels named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from NatureLM.scoring.captioning import cider
from NatureLM.scoring.classification import count_labels, macro
from NatureLM.scoring.detection import average_precision
from NatureLM.scoring.matching import LabelMatcher
from NatureLM.scoring.normalize import until_end_of_text
from NatureLM.scoring.vocabulary import NONE

Target = str | list[str]

_HERTZ = re.compile(r"\d+(?:\.\d+)? Hz")
_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
_RANGE = re.compile(r"(\d+(?:\.\d+)?)\s*-\s*(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class NextRow:
    """One prediction of a BEANS-Next run beside its target.

    Attributes:
        sample_id: Name of the row.
        predictions: The model's texts; the first one counts.
        targets: One reference, or a list.
        error: What went wrong on the model's side, if anything.
    """

    sample_id: str
    predictions: tuple[str, ...]
    targets: Target
    error: str | None = None


@dataclass(frozen=True)
class NextScore:
    """What the scorer says about one row.

    Attributes:
        sample_id: Name of the row.
        processed: The answer after matching.
        scores: Metric to value; ``None`` for failed rows, captions, and rows where nothing was there and nothing said.
        error: The model's error, if any.
    """

    sample_id: str
    processed: str
    scores: Mapping[str, float] | None
    error: str | None


@dataclass(frozen=True)
class NextSummary:
    """Means over the rows without an error, and the counts."""

    task_type: str | None
    n_samples: int
    n_errors: int
    mean: Mapping[str, float]


def score_beans_next(
    rows: Sequence[NextRow], task_type: str | None
) -> tuple[list[NextScore], NextSummary]:
    """Score a run as the offline scorer does.

    Args:
        rows: All rows, in order; their targets are the vocabulary.
        task_type: ``classification``, ``detection``, ``captioning``, or ``None`` when it is not known.
    """
    match = _matcher([row.targets for row in rows], task_type)
    processed = [match(row.predictions[0] if row.predictions else "") for row in rows]
    scores = [
        NextScore(row.sample_id, text, _row_scores(row, text, task_type), row.error)
        for row, text in zip(rows, processed, strict=True)
    ]
    means = _means(scores) | _corpus_scores(rows, processed, task_type)
    errors = sum(row.error is not None for row in rows)
    return scores, NextSummary(task_type, len(rows), errors, means)


def conservative_labels(text: str, vocabulary: Iterable[str], least: float = 0.8) -> list[str]:
    """Read the labels that a detection answer names, and drop what is not clearly one.

    Args:
        text: The answer, a comma-joined list.
        vocabulary: The labels; "None" is never returned.
        least: Least similarity of a part to its label, as 1 - edits / longer length.
    """
    labels = {label.casefold(): label for label in vocabulary if label != NONE}
    if not labels:
        return []
    matcher, found = LabelMatcher(labels), []
    for part in until_end_of_text(text).split(","):
        plain = part.casefold().strip(" \t\n.*\"'`«»;:!?")
        near = matcher.nearest(plain)
        mentions = [label for label in matcher.labels if _names(plain, label)]
        if 1 - near.distance / max(len(plain), len(near.label), 1) >= least:
            found.append(labels[near.label])
        elif len(mentions) == 1:
            found.append(labels[mentions[0]])
    return found


def _names(text: str, label: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text, re.IGNORECASE) is not None


def _as_list(targets: Target) -> list[str]:
    return targets if isinstance(targets, list) else [targets]


def _matcher(targets: Sequence[Target], task_type: str | None) -> Callable[[str], str]:
    """Choose how answers are matched: whole for classification, part by part otherwise."""
    labels = {label for target in targets for label in _as_list(target)}
    if task_type == "classification":
        return _classifier(labels) if labels else str.strip
    pieces = {piece.strip() for label in labels for piece in label.split(",")} - {""}
    matcher = LabelMatcher(pieces | (set() if task_type == "captioning" else {NONE}) or {""})

    def match(text: str) -> str:
        parts = (part.strip() for part in until_end_of_text(text).split(","))
        return ", ".join(matcher.nearest(part).label for part in parts if part)

    return match


def _classifier(labels: set[str]) -> Callable[[str], str]:
    matcher = LabelMatcher(labels)
    special: Callable[[str], str | None] = _sole_mention(matcher.labels)
    if all(_HERTZ.fullmatch(label) for label in labels):
        special = _nearest_hertz(matcher.labels)
    elif all(len(label) == 1 for label in labels) or labels <= {"Yes", "No"}:
        special = _last_mention(matcher.labels)

    def match(text: str) -> str:
        answer = until_end_of_text(text)
        if answer in matcher:
            return answer
        return special(answer) or matcher.nearest(answer).label

    return match


def _sole_mention(labels: Sequence[str]) -> Callable[[str], str | None]:
    def find(text: str) -> str | None:
        named = [label for label in labels if _names(text, label)]
        return named[0] if len(named) == 1 else None

    return find


def _last_mention(labels: Sequence[str]) -> Callable[[str], str | None]:
    """Find the last letter or yes/no in an answer; as written if possible, in any case otherwise."""
    words = "|".join(re.escape(label) for label in labels)
    pattern = re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE)
    written = {label.casefold(): label for label in labels}

    def find(text: str) -> str | None:
        found = pattern.findall(text)
        exact = [word for word in found if word in labels]
        if len(labels) == 2 and {"Yes", "No"} == set(labels):
            exact = found
        chosen = exact or found
        return written[chosen[-1].casefold()] if chosen else None

    return find


def _nearest_hertz(labels: Sequence[str]) -> Callable[[str], str | None]:
    """Find the label nearest to the last number of an answer; a range counts as a tenth of its middle."""

    def find(text: str) -> str | None:
        between, numbers = _RANGE.search(text), _NUMBER.findall(text)
        if between:
            value = (float(between[1]) + float(between[2])) / 2 / 10
        elif numbers:
            value = float(numbers[-1].replace(",", ""))
        else:
            return None
        return min(labels, key=lambda label: (abs(float(label.split()[0]) - value), label))

    return find


def _row_scores(row: NextRow, processed: str, task_type: str | None) -> dict[str, float] | None:
    if row.error is not None or task_type == "captioning":
        return None
    if isinstance(row.targets, str):
        hit = float(processed == row.targets)
        names = ("accuracy", "f1", "precision", "recall", "top1_accuracy")
        return dict.fromkeys(names, hit)
    if task_type != "detection":
        hit = float(processed in row.targets)
        return {"accuracy": hit, "top1_accuracy": hit}
    return _set_scores(set(row.targets), _set_of(processed))


def _set_of(processed: str) -> set[str]:
    return {part.strip() for part in processed.split(",")} - {""}


def _set_scores(truth: set[str], named: set[str]) -> dict[str, float] | None:
    if not truth and not named:
        return None
    hits = len(truth & named)
    return {
        "average_precision": len(truth) / len(truth | named),
        "f1": 2 * hits / (len(truth) + len(named)),
        "precision": hits / len(named) if named else 0.0,
        "recall": hits / len(truth) if truth else 0.0,
    }


def _means(scores: Sequence[NextScore]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for score in scores:
        for metric, value in (score.scores or {}).items():
            values.setdefault(metric, []).append(value)
    return {metric: sum(each) / len(each) for metric, each in values.items()}


def _corpus_scores(
    rows: Sequence[NextRow], processed: Sequence[str], task_type: str | None
) -> dict[str, float]:
    pairs = [
        (row.targets, text) for row, text in zip(rows, processed, strict=True) if not row.error
    ]
    if not pairs or task_type not in ("classification", "detection", "captioning"):
        return {}
    texts = [text for _, text in pairs]
    if task_type == "captioning":
        return {"cider": cider(texts, [_as_list(target)[0] for target, _ in pairs]).mean / 10}
    if task_type == "classification":
        truth = [(_as_list(target) or [""])[0] for target, _ in pairs]
        return {"macro_f1": macro(count_labels(truth, texts)).f1}
    return _dataset_map([_set_of(", ".join(_as_list(t))) for t, _ in pairs], texts)


def _dataset_map(truth: Sequence[set[str]], texts: Sequence[str]) -> dict[str, float]:
    named = [_set_of(text) for text in texts]
    values = [
        average_precision(
            np.array([label in row for row in truth]), np.array([float(label in x) for x in named])
        )
        for label in sorted(set().union(*truth))
    ]
    return {"dataset_map": float(np.mean(values))} if values else {}
